//! What `sublet exec` is asked.

use std::{convert::Infallible, env, fmt, path::PathBuf, str::FromStr, time::Duration};

use clap::{ArgGroup, Args};

use super::{super::exit::Exit, params};
use crate::{
    config::duration,
    proto::{AcquireOptions, ExecuteRequest, Operation, execute_request::Target, operation::Input},
};

const MORE: &str = "\
On standard output is the answer and nothing else: text as it comes; JSON, and rows as JSON objects, a line each; bytes
as they are, which a terminal is spared; with --save the paths of the saved files. Progress, warnings and errors are on
standard error. Ctrl-C cancels the call at the backend, too.

Of ComfyUI's prompts (queue_prompt, wait, fetch) the answer is what the prompt has put out, and everything before it is
progress. Previews are not saved. To queue_prompt, and to wait and fetch with a prompt_id, --save adds `outputs: bytes`
unless the params say how outputs are wanted; the bytes come in a stream only, so --whole is refused then.

An HTTP answer is an answer whatever its status, and ends with 0; a status other than 2xx is told on standard error.

Examples:
  sublet exec --pool llm chat '{\"prompt\": \"Tell me a story\"}'
  echo '{\"prompt\": \"hi\", \"max_tokens\": 50}' | sublet exec --pool llm chat - --verbose
  sublet exec --pool art queue_prompt --workflow workflow_api.json --attach photo.png=./photo.png --save ./out
  sublet exec --pool art --endpoint attic upload '{\"name\": \"photo.png\"}' --body ./photo.png
  sublet exec --pool art view '{\"filename\": \"art_00001_.png\"}' > art.png
  sublet exec --pool db query '{\"sql\": \"select 1\"}'
  sublet exec --pool api request '{\"path\": \"/items\"}' --json | jq 'select(.head).head.status'

Exit codes: 0 well, 1 the operation failed (or a file was not saved, or a terminal was spared the answer), 64 wrong
command line, 69 the broker cannot be reached or a file not be written, 70 a defect; 130, 143 and 129: cancelled by
Ctrl-C, SIGTERM or a closed terminal.";

/// A lease's token, for calls that name no target.
const TOKEN: &str = "SUBLET_LEASE_TOKEN";
const NO_TARGET: &str =
    "where to run it is missing: write --pool NAME or --lease TOKEN, or set SUBLET_LEASE_TOKEN";
const ONE_SESSION: &str = "a lease has one session already: leave --endpoint out, or write --pool";

/// The longest time that an operation may be given.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What to run, and where.
#[derive(Debug, Args)]
#[command(after_help = MORE, after_long_help = MORE)]
#[command(group(ArgGroup::new("target").args(["pool", "lease"])))]
pub(in crate::app) struct ExecFlags {
    /// The operation's name: `chat`, `queue_prompt`, `query`, `request`... The page of the pool's kind has them all.
    #[arg(value_name = "OPERATION")]
    pub(super) operation: String,
    /// The operation's params: JSON text, @FILE, or - for standard input. Goes to the broker byte for byte.
    #[arg(value_name = "PARAMS", default_value = "{}")]
    pub(super) params: String,
    /// Run on any session of this pool.
    #[arg(long, value_name = "NAME")]
    pub(super) pool: Option<String>,
    /// Run on the session of this lease; without --pool, on that of `SUBLET_LEASE_TOKEN` in the environment.
    // The environment is no word on the command line: it must not stand against --pool.
    #[arg(long, value_name = "TOKEN")]
    lease: Option<Token>,
    /// The only endpoint of the pool that will do.
    #[arg(long, value_name = "NAME", conflicts_with = "lease")]
    endpoint: Option<String>,
    /// Time allowed from the grant of a session on, such as 90s or 1h30m [default: the pool's].
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    timeout: Option<Duration>,
    /// The operation's body: a file, or - for standard input. One that does not fit into a message, 4 MiB, is streamed.
    #[arg(long, value_name = "FILE")]
    pub(super) body: Option<PathBuf>,
    /// Put this file's JSON, byte for byte, into the params as `workflow`: ComfyUI's API format.
    #[arg(long, value_name = "FILE")]
    pub(super) workflow: Option<PathBuf>,
    /// Add a file to the params' `files`, as ComfyUI's `queue_prompt` takes them: the workflow says
    /// `attachment:NAME` where it belongs. May be repeated.
    #[arg(long, value_name = "NAME=FILE")]
    pub(super) attach: Vec<String>,
    /// Save the files of the answer in this folder, which is made for the first one if it is missing, under their own
    /// names; bytes without a name are called as the operation.
    #[arg(long, value_name = "DIR")]
    pub(super) save: Option<PathBuf>,
    /// Let a saved file take the place of one that was there, rather than be saved as `name (1).png`. Files of one
    /// answer never replace each other.
    #[arg(long, requires = "save")]
    pub(super) overwrite: bool,
    /// Print every event as a line of JSON, as protobuf writes it; an error as `{"error": ...}`, too.
    #[arg(long, conflicts_with = "save")]
    pub(super) json: bool,
    /// Ask for the answer as a whole (`Execute`) rather than as a stream (`ExecuteStream`).
    #[arg(long)]
    pub(super) whole: bool,
    /// Say at the end which session it was, how long it took, and what it cost; --json has all that.
    #[arg(long, short, conflicts_with = "json")]
    pub(super) verbose: bool,
    /// The broker's address.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "SUBLET_LISTEN",
        default_value = "127.0.0.1:50051"
    )]
    pub(super) broker: String,
}

/// A lease's token, which is a secret.
#[derive(Clone)]
struct Token(String);

impl FromStr for Token {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl ExecFlags {
    /// The call, without its body.
    pub(super) fn request(&self) -> Result<ExecuteRequest, Exit> {
        let target = self.target(env::var(TOKEN).ok())?;
        let options = self.endpoint.as_ref().map(|endpoint| AcquireOptions {
            endpoint: endpoint.clone(),
            ..AcquireOptions::default()
        });
        let operation = Operation {
            name: self.operation.clone(),
            input: Some(Input::ParamsJson(params::read(self)?)),
            timeout: self.timeout.and_then(|timeout| timeout.try_into().ok()),
            ..Operation::default()
        };
        Ok(ExecuteRequest {
            target: Some(target),
            options,
            operation: Some(operation),
            ..ExecuteRequest::default()
        })
    }

    /// What the command line names, or else the lease of the environment.
    fn target(&self, token: Option<String>) -> Result<Target, Exit> {
        if let Some(pool) = &self.pool {
            return Ok(Target::Pool(pool.clone()));
        }
        let lease = self.lease.as_ref().map(|Token(token)| token.clone());
        let token = lease.or(token).filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| Exit::usage(NO_TARGET))?;
        match self.endpoint {
            Some(_) => Err(Exit::usage(ONE_SESSION)),
            None => Ok(Target::LeaseToken(token)),
        }
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    match duration(text, LONGEST)? {
        Duration::ZERO => Err("at least 1ms".to_owned()),
        timeout => Ok(timeout),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        flags: ExecFlags,
    }

    fn line(arguments: &[&str]) -> Result<ExecFlags, clap::Error> {
        let line = Line::try_parse_from([&["sublet", "echo"][..], arguments].concat());
        line.map(|line| line.flags)
    }

    #[test]
    fn the_command_line_goes_before_a_lease_of_the_environment() {
        let target = |arguments: &[&str], token: Option<&str>| {
            let target = line(arguments).unwrap().target(token.map(str::to_owned));
            target.map_err(|exit| exit.code())
        };
        let (pool, lease) = (Target::Pool("a".to_owned()), |token: &str| {
            Target::LeaseToken(token.to_owned())
        });
        assert_eq!(target(&["--pool", "a"], Some("t")), Ok(pool.clone()));
        let one = ["--pool", "a", "--endpoint", "attic"];
        assert_eq!(target(&one, Some("t")), Ok(pool));
        assert_eq!(target(&["--lease", "l"], Some("t")), Ok(lease("l")));
        assert_eq!(target(&[], Some("t")), Ok(lease("t")));
        assert_eq!(target(&["--endpoint", "attic"], Some("t")), Err(64));
        assert_eq!(target(&[], Some("")), Err(64));
        assert_eq!(target(&[], None), Err(64));
        assert!(line(&["--pool", "a", "--lease", "l"]).is_err());
    }

    #[test]
    fn what_would_say_nothing_is_refused() {
        assert!(line(&["--pool", "a", "--json", "--verbose"]).is_err());
    }
}
