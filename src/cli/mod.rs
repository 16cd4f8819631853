//! The command line: one file per command.

mod background;
pub mod check;
pub mod config;
pub mod convert;
pub mod demo;
pub mod files;
pub mod pgbouncer;
pub mod route;
pub mod run;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A PostgreSQL connection pooler.
#[derive(Debug, Parser)]
#[command(
    name = "pgweir",
    version,
    about,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients (`pgweir FILE` is the same)
    Run(run::Args),
    /// Validate a configuration and print what would run
    Check(check::Args),
    /// Print a pgbouncer.ini as pgweir.toml
    Convert(convert::Args),
    /// Print what the settings are: schema, documentation, samples
    Config(config::Args),
    /// Say where statements would go under a configuration, and why
    Route(route::Args),
    /// Take PgBouncer's command line (`pgweir pgbouncer --help`), as a link called
    /// pgbouncer does
    #[command(disable_help_flag = true)]
    Pgbouncer {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
    /// See it at work: a throw-away PostgreSQL with pgweir in front
    Demo(demo::DemoArgs),
}

/// Entry point of the binary.
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    if words.first().is_some_and(pgbouncer::is_meant) {
        return pgbouncer::main(&words);
    }
    let cli = Cli::parse_from(with_default_command(words));
    let result = match cli.command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Config(args) => config::run(args),
        Command::Route(args) => route::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Pgbouncer { mut words } => {
            words.insert(0, "pgbouncer".into());
            return pgbouncer::main(&words);
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("pgweir: {error:#}");
        ExitCode::FAILURE
    })
}

/// `pgweir FILE` means `pgweir run FILE`: a first word that is neither an
/// option nor a command is a file.
fn with_default_command(mut args: Vec<OsString>) -> Vec<OsString> {
    let is_command = |word: &OsString| {
        let word = word.to_string_lossy();
        word.starts_with('-')
            || word == "help"
            || <Cli as clap::CommandFactory>::command()
                .get_subcommands()
                .any(|command| command.get_name() == word)
    };
    if args.get(1).is_some_and(|word| !is_command(word)) {
        args.insert(1, "run".into());
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_alone_is_run() {
        let parse = |words: &[&str]| {
            let words = words.iter().map(|&w| w.into()).collect();
            Cli::try_parse_from(with_default_command(words)).map(|cli| cli.command)
        };
        assert!(matches!(parse(&["pgweir", "x.toml"]), Ok(Command::Run(_))));
        assert!(matches!(
            parse(&["pgweir", "run", "x.ini"]),
            Ok(Command::Run(_))
        ));
        assert!(matches!(
            parse(&["pgweir", "check", "x.ini"]),
            Ok(Command::Check(_))
        ));
        assert!(parse(&["pgweir"]).is_err());
        assert!(parse(&["pgweir", "--no-such-option"]).is_err());
    }

    #[test]
    fn the_definition_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
