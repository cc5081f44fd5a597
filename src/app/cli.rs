//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use super::{exec::ExecFlags, plugin::Asked};
use crate::config::Layer;

const EXAMPLES: &str = "\
Examples:
  sublet demo                       watch many clients share few sessions
  sublet serve                      a broker on 127.0.0.1:50051, its pools kept in ./sublet-data
  SUBLET_DATABASE_URL=postgres://sublet@db/sublet sublet serve --log-format json
  sublet exec --pool llm chat '{\"prompt\": \"Tell me a story\"}'
  sublet health --service pools/payments
  sublet tunnel --pool cache --listen 127.0.0.1:6379
  sublet plugin test --address unix:/run/press.sock
  sublet proto export ./protos      the protos, to generate clients from

Exit codes: 0 well, 1 what was asked about is not well or the operation failed, 64 wrong command line or
configuration, 69 something needed is not available (no broker there, port in use, store locked by another
broker), 70 a defect; 129, 130 and 143: a signal has cancelled the call.";

/// Sublet, a gRPC connection broker: programs in any language lease warm sessions to scarce backends.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, after_long_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a broker until SIGTERM or SIGINT; a second one ends it at once.
    Serve(ConfigFlags),
    /// Watch a broker in a terminal: many clients contend for few sessions over real gRPC. Takes about ten seconds.
    Demo,
    /// Print the configuration file with every setting at its default, explained; or check a file.
    Config {
        /// Check this file instead, and tell everything that is wrong with it.
        #[arg(long, value_name = "FILE")]
        check: Option<PathBuf>,
    },
    /// Run one operation on a pool of a running broker, and show its answer as it comes; save the files in it.
    Exec(ExecFlags),
    /// Ask a running broker whether it, a service or a pool is serving; exit code 0 if so, else 1.
    Health(Question),
    /// Carry local TCP connections over sessions of a tcp pool, for programs that know nothing of Sublet.
    Tunnel(TunnelFlags),
    /// Work with drivers of your own, for pools of the kind `plugin`.
    #[command(subcommand)]
    Plugin(Plugin),
    /// Work with the protos that this broker speaks.
    #[command(subcommand)]
    Proto(Proto),
}

/// What to ask for, and whom.
#[derive(Debug, Args)]
pub(super) struct Question {
    /// The broker's address.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "SUBLET_LISTEN",
        default_value = "127.0.0.1:50051"
    )]
    pub(super) address: String,
    /// What to ask about: nothing for the broker itself, sublet.v1.BrokerService, pools/NAME.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(super) service: String,
}

/// What to carry, and where.
///
/// Each connection waits for a session as any caller does, and has it for itself until it ends; then the session is
/// closed. If there is none to be had, the connection is closed and the reason logged. SIGINT or SIGTERM: no more
/// connections are accepted, and those that are open go on to their end; a second one cuts them.
#[derive(Debug, Args)]
pub(super) struct TunnelFlags {
    /// The pool, of kind `tcp`. Its sizing and queue say how many connections are open and how many wait; its
    /// `lease.max_duration` (1 h unless set), and at most 24 h, how long one lasts.
    #[arg(long, value_name = "NAME")]
    pub(super) pool: String,
    /// Where programs connect; port 0 takes a free one, which the first line tells.
    #[arg(long, value_name = "IP:PORT")]
    pub(super) listen: SocketAddr,
    /// The broker's address.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "SUBLET_LISTEN",
        default_value = "127.0.0.1:50051"
    )]
    pub(super) broker: String,
    /// Allow a listener that other machines can reach: whoever reaches it uses the pool's sessions.
    #[arg(long)]
    pub(super) insecure: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Plugin {
    /// Test whether a driver keeps to the protocol: it connects, executes, cancels, kills, dirties, and times.
    Test(Asked),
}

#[derive(Debug, Subcommand)]
pub(super) enum Proto {
    /// Write every proto, those that they import included, below a folder.
    Export {
        /// The folder; made if it is missing.
        dir: PathBuf,
    },
}

/// Flags that go before the environment and the file. They are checked with these, so that every fault is told at
/// once.
#[derive(Debug, Default, Args)]
pub(super) struct ConfigFlags {
    /// A configuration file; `sublet config` prints one.
    #[arg(long, value_name = "FILE", env = "SUBLET_CONFIG")]
    pub(super) config: Option<PathBuf>,
    /// Where clients connect [default: 127.0.0.1:50051].
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<String>,
    /// Allow a listener that other machines can reach, although there is no TLS and no authentication yet.
    #[arg(long)]
    insecure: bool,
    /// The folder of the embedded store [default: sublet-data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// The folder of secrets that definitions name by `file` [default: sublet-secrets].
    #[arg(long, value_name = "DIR")]
    secrets_dir: Option<String>,
    /// Time for leases to end by themselves after SIGTERM [default: 30s].
    #[arg(long, value_name = "DURATION")]
    grace_period: Option<String>,
    /// Threads that serve connections, 0 for one for each processor [default: 0].
    #[arg(long, value_name = "COUNT")]
    workers: Option<String>,
    /// Connections at the same time [default: 10000].
    #[arg(long, value_name = "COUNT")]
    max_connections: Option<String>,
    /// Shape of log lines: auto, pretty, json [default: auto].
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// What is logged: error, warn, info, debug, trace, off, or a filter by module [default: info].
    #[arg(long, value_name = "FILTER")]
    log_filter: Option<String>,
}

impl ConfigFlags {
    /// What was given.
    pub(super) fn layer(&self) -> Layer {
        Layer::flags([
            ("listen", self.listen.as_deref()),
            ("insecure", self.insecure.then_some("true")),
            ("data_dir", self.data_dir.as_deref()),
            ("secrets_dir", self.secrets_dir.as_deref()),
            ("grace_period", self.grace_period.as_deref()),
            ("workers", self.workers.as_deref()),
            ("max_connections", self.max_connections.as_deref()),
            ("log_format", self.log_format.as_deref()),
            ("log_filter", self.log_filter.as_deref()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_shows_how_to_start() {
        insta::assert_snapshot!(Cli::command().render_long_help());
    }
}
