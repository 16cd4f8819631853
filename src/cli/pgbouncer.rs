//! PgBouncer's own command line, for a link called `pgbouncer` and for `pgweir
//! pgbouncer`: init scripts and units go on working unchanged.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgAction, Parser};

use super::run::{self, Manner};
use crate::process::{Overrides, Source};

/// The options of PgBouncer 1.25, all of which may be given twice.
#[derive(Debug, Parser)]
#[command(
    disable_help_flag = true,
    disable_version_flag = true,
    args_override_self = true,
    infer_long_args = true
)]
struct Args {
    #[arg(short, long)]
    daemon: bool,
    #[arg(short, long)]
    quiet: bool,
    #[arg(short = 'R', long)]
    reboot: bool,
    #[arg(short, long)]
    user: Option<String>,
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
    #[arg(short = 'V', long)]
    version: bool,
    #[arg(short, long)]
    help: bool,
    /// Said by `--daemon` to the process that goes on.
    #[arg(long, hide = true)]
    in_background: bool,
    files: Vec<PathBuf>,
}

/// Whether a program of this name is to behave as PgBouncer.
pub fn is_meant(program: &OsString) -> bool {
    Path::new(program).file_name() == Some("pgbouncer".as_ref())
}

/// Runs what `words` ask for; the first is how the program was called.
pub fn main(words: &[OsString]) -> ExitCode {
    let program = words.first().map(|word| word.to_string_lossy());
    let program = program.unwrap_or("pgbouncer".into());
    let wrong = |text: &str| {
        eprintln!("{program}: {text}");
        eprintln!("Try \"{program} --help\" for more information.");
        ExitCode::FAILURE
    };
    let args = match Args::try_parse_from(words) {
        Ok(args) => args,
        Err(error) => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            return wrong(line.trim_start_matches("error: "));
        }
    };
    if args.help {
        print!("{}", usage(&program));
        return ExitCode::SUCCESS;
    }
    if args.version {
        println!("{}", crate::admin::version());
        return ExitCode::SUCCESS;
    }
    let [file] = args.files.as_slice() else {
        return wrong("no configuration file specified");
    };
    let overrides = Overrides {
        verbose: args.verbose.into(),
        user: args.user,
    };
    let source = Source::new(Some(file.clone()), Vec::new()).with(overrides);
    let manner = Manner {
        quiet: args.quiet,
        in_background: args.in_background,
        daemon: (args.daemon && !args.in_background).then(|| in_background(words)),
        as_root: false,
        reboot: args.reboot,
    };
    run::start(source, &manner).unwrap_or_else(|error| {
        eprintln!("{program}: {error:#}");
        ExitCode::FAILURE
    })
}

/// What the process in the background is started with.
fn in_background(words: &[OsString]) -> Vec<OsString> {
    let mut words = words.to_vec();
    words.insert(1.min(words.len()), "--in-background".into());
    words
}

fn usage(program: &str) -> String {
    format!(
        "{program} is a connection pooler for PostgreSQL.\n\
         \n\
         Usage:\n  \
           {program} [OPTION]... CONFIG_FILE\n\
         \n\
         Options:\n  \
           -d, --daemon         run in background (as a daemon)\n  \
           -q, --quiet          run quietly\n  \
           -R, --reboot         do an online reboot\n  \
           -u, --user=USERNAME  assume identity of USERNAME\n  \
           -v, --verbose        increase verbosity\n  \
           -V, --version        show version, then exit\n  \
           -h, --help           show this help, then exit\n"
    )
}
