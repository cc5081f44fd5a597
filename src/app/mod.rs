//! Puts a broker together: config, store, catalog, broker, gRPC, and their end; and the program's other commands.

mod application;
mod check;
mod cli;
mod credit;
mod demo;
mod exec;
mod exit;
mod plugin;
mod pool_health;
mod protos;
mod reach;
mod running;
mod serve;
mod tunnel;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::Parser as _;
use tokio::runtime::{Builder, Runtime};

use self::cli::{Cli, Command, ConfigFlags, Plugin, Proto};
pub use self::{application::Application, exit::Exit};
use crate::config::{Config, Layer, annotated};

/// Time for the last blocking work when the program ends.
const LAST_WORK: Duration = Duration::from_secs(1);

/// Runs the program with its command line, to its exit code: 0; 1 what was asked about is not well, or failed; 64 a
/// wrong command line or configuration; 69 something that is needed is not available; 70 a defect of the broker;
/// 129, 130 or 143 a call that a signal has cancelled.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let ended = match Cli::try_parse_from(arguments) {
        Ok(cli) => obey(cli.command),
        Err(answer) => return exit::clap(&answer),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.tell(),
    }
}

fn obey(command: Command) -> Result<(), Exit> {
    match command {
        Command::Serve(flags) => serve::run(configured(&flags)?),
        Command::Demo => demo::run(),
        Command::Config { check: None } => say(&annotated()),
        Command::Config { check: Some(file) } => {
            Config::from_layers([file_layer(&file)?])?;
            say(&format!("{} is fine\n", file.display()))
        }
        Command::Exec(flags) => exec::run(&flags),
        Command::Health(question) => say(&check::ask(&question)?),
        Command::Tunnel(flags) => tunnel::run(&flags),
        Command::Plugin(Plugin::Test(asked)) => plugin::test(&asked),
        Command::Proto(Proto::Export { dir }) => {
            protos::export(&dir)
                .map_err(|error| Exit::unavailable(format!("cannot write to {}", dir.display()), error))?;
            say(&format!(
                "wrote {} protos below {}\n",
                protos::PROTOS.len(),
                dir.display()
            ))
        }
    }
}

/// The runtime of everything but connections, which have threads of their own.
fn runtime() -> Result<Runtime, Exit> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("main")
        .enable_all()
        .build()
        .map_err(|error| Exit::internal("cannot start", error))
}

/// The configuration of a broker that was started with `flags`.
fn configured(flags: &ConfigFlags) -> Result<Config, Exit> {
    let file = flags.config.as_deref().map(file_layer).transpose()?;
    let environment = Layer::environment(std::env::vars_os());
    Ok(Config::from_layers(
        file.into_iter().chain([environment, flags.layer()]),
    )?)
}

fn file_layer(path: &std::path::Path) -> Result<Layer, Exit> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Exit::usage(format!(
            "cannot read the configuration {}: {error}",
            path.display()
        ))
    })?;
    Ok(Layer::file(&path.display().to_string(), &text))
}

fn say(text: &str) -> Result<(), Exit> {
    match io::stdout().write_all(text.as_bytes()) {
        // `sublet config | head` is no fault.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        told => told.map_err(|error| Exit::unavailable("cannot write", error)),
    }
}
