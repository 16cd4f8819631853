//! `pgweir config`: what the settings table knows.

use std::io::Write;
use std::process::ExitCode;

use crate::config;

/// Print the documentation of all settings, their JSON schema, or a sample file.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Args {
    #[arg(value_enum)]
    what: What,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum What {
    /// Every setting, as Markdown.
    Docs,
    /// JSON schema of pgweir.toml, for editors.
    Schema,
    /// A commented pgweir.toml.
    SampleToml,
    /// A commented pgbouncer.ini.
    SampleIni,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let text = match args.what {
        What::Docs => config::settings_markdown(),
        What::Schema => serde_json::to_string_pretty(&config::json_schema())? + "\n",
        What::SampleToml => config::sample_toml(),
        What::SampleIni => config::sample_ini(),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
