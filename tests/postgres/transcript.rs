//! PgBouncer and pgweir side by side: the same ini files in front of the same
//! PostgreSQL, and the same script on both. What they answer must be the same, but
//! for what `docs/drop-in.md` lists.
//!
//! `PGBOUNCER=file` names another PgBouncer for the second test, for example what
//! `scripts/install-pgbouncer.sh forky` prints.

mod differences;
mod files;
mod log;
mod log_differences;
mod newer;
mod record;
mod script;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use differences::{Difference, Kind};
use record::Step;
use script::Script;

use crate::support::{Program, Target};

/// Both from scripts/install-test-deps.sh: as the distribution's package installs it,
/// and a newer distribution's.
const DISTRIBUTIONS: &str = "/usr/sbin/pgbouncer";
const NEWER: &str = "target/pgbouncer/trixie/pgbouncer";

/// Of those that the differences are known for, 1.x.
const KNOWN: RangeInclusive<u32> = 18..=26;

/// The step behind the last one, of each script.
fn log_of(script: &str) -> String {
    format!("the log of \"{script}\"")
}

fn differences() -> impl Iterator<Item = &'static Difference> {
    differences::DIFFERENCES
        .iter()
        .chain(log_differences::DIFFERENCES)
}

/// By then it has what the end of the last clients was.
const WRITTEN: Duration = Duration::from_millis(300);

/// Which differences were met.
type Met = BTreeSet<usize>;

#[test]
fn is_like_an_old_pgbouncer_but_for_what_is_written_down() {
    let version = compare_with(Path::new(DISTRIBUTIONS));
    assert!(version < 20, "the old one is 1.{version}");
}

#[test]
fn is_like_a_newer_pgbouncer_but_for_what_is_written_down() {
    let version = compare_with(&newer());
    assert!(version > 20, "the newer one is 1.{version}");
}

fn newer() -> PathBuf {
    std::env::var("PGBOUNCER")
        .unwrap_or_else(|_| NEWER.to_owned())
        .into()
}

/// Where it is, and the x of its version 1.x.
fn known(pgbouncer: &Path) -> (PathBuf, u32) {
    let pgbouncer = pgbouncer.canonicalize().unwrap_or_else(|e| {
        panic!("{pgbouncer:?}: {e}: run scripts/install-test-deps.sh");
    });
    let text = Program::new(&pgbouncer.to_string_lossy())
        .args(&["--version"])
        .succeed();
    let minor = text.strip_prefix("PgBouncer 1.").and_then(|rest| {
        let (minor, _) = rest.split_once('.')?;
        minor.parse().ok()
    });
    let version = minor.unwrap_or_else(|| panic!("which version is {text}?"));
    assert!(
        KNOWN.contains(&version),
        "the differences are known for {KNOWN:?}"
    );
    (pgbouncer, version)
}

/// Returns the x of its version 1.x.
fn compare_with(pgbouncer: &Path) -> u32 {
    let (pgbouncer, version) = known(pgbouncer);
    let mut met = Met::new();
    let mut wrong = Vec::new();
    let mut count = 0;
    let newer = newer::ALL
        .iter()
        .filter(|(since, _)| *since <= version)
        .map(|(_, script)| script);
    for script in script::ALL.iter().chain(newer) {
        let name = script.name;
        let (theirs, ours) = std::thread::scope(|scope| {
            let theirs = scope.spawn(|| play(script, Target::Pgbouncer(pgbouncer.clone())));
            let ours = play(script, own());
            (theirs.join().expect("a transcript"), ours)
        });
        let what: Vec<_> = theirs.iter().map(|step| &step.what).collect();
        let same: Vec<_> = ours.iter().map(|step| &step.what).collect();
        assert_eq!(what, same, "{name}: the same script");
        count += what.len();
        for (theirs, ours) in theirs.into_iter().zip(ours) {
            if let Err(text) = compare(version, &theirs, &ours, &mut met) {
                wrong.push(format!("{name}: {}\n{text}", theirs.what));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} steps of {count} differ:\n\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(count > 300, "only {count} steps");
    let docs = std::fs::read_to_string("docs/drop-in.md").expect("docs/drop-in.md");
    let unlisted = |d: &&Difference| !docs.contains(&format!("| {} |", d.name));
    let missing: Vec<_> = differences().filter(unlisted).map(|d| d.name).collect();
    assert!(missing.is_empty(), "not in docs/drop-in.md: {missing:?}");
    let unmet = differences()
        .enumerate()
        .filter(|(at, difference)| difference.concerns(version) && !met.contains(at));
    let unmet: Vec<_> = unmet
        .map(|(at, difference)| (at, difference.name))
        .collect();
    assert!(unmet.is_empty(), "no difference any more: {unmet:?}");
    version
}

fn own() -> Target {
    Target::Pgweir {
        program: env!("CARGO_BIN_EXE_pgweir").into(),
        ini: true,
    }
}

fn play(script: &Script, target: Target) -> Vec<Step> {
    let pooler = (script.setup)().by(target).start();
    let mut steps = (script.play)(&pooler);
    std::thread::sleep(WRITTEN);
    steps.push(Step {
        what: log_of(script.name),
        lines: log::kinds(&pooler.log()),
    });
    for step in &mut steps {
        step.mask(&pooler);
    }
    steps
}

/// Takes what is known to differ out of both; what is left must be the same.
fn compare(version: u32, theirs: &Step, ours: &Step, met: &mut Met) -> Result<(), String> {
    let (mut theirs, mut ours) = (theirs.clone(), ours.clone());
    for (at, difference) in differences().enumerate() {
        if theirs.lines == ours.lines {
            break;
        }
        if !difference.concerns(version) {
            continue;
        }
        let before = (theirs.clone(), ours.clone());
        match &difference.kind {
            Kind::Level(level) => level(&mut theirs, &mut ours),
            Kind::Answer {
                what,
                theirs: one,
                ours: other,
            } => {
                let says =
                    |step: &Step, text: &str| step.lines.iter().any(|line| line.contains(text));
                if theirs.what.ends_with(what) && says(&theirs, one) && says(&ours, other) {
                    theirs.lines.clear();
                    ours.lines.clear();
                }
            }
            Kind::Log {
                script,
                theirs: one,
                ours: other,
            } => {
                let alone = |step: &Step, than: &Step, line: &str| {
                    let has = |step: &Step| step.lines.iter().any(|known| known == line);
                    has(step) && !has(than)
                };
                if theirs.what == log_of(script)
                    && one.iter().all(|line| alone(&theirs, &ours, line))
                    && other.iter().all(|line| alone(&ours, &theirs, line))
                {
                    theirs.lines.retain(|line| !one.contains(&line.as_str()));
                    ours.lines.retain(|line| !other.contains(&line.as_str()));
                }
            }
        }
        if before != (theirs.clone(), ours.clone()) {
            met.insert(at);
        }
    }
    if theirs.lines == ours.lines {
        return Ok(());
    }
    let only = |step: &Step, other: &Step, sign: &str| -> String {
        let lines = step.lines.iter().filter(|line| !other.lines.contains(line));
        lines.map(|line| format!("  {sign} {line}\n")).collect()
    };
    Err(only(&theirs, &ours, "-") + &only(&ours, &theirs, "+"))
}
