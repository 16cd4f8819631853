//! The distribution's pgbouncer and pgweir side by side: the same ini files in
//! front of the same PostgreSQL, and the same script on both. What they answer
//! must be the same, but for what `docs/drop-in.md` lists.

mod differences;
mod record;
mod script;

use std::collections::BTreeSet;
use std::path::Path;

use differences::{DIFFERENCES, Difference, Kind};
use record::Step;
use script::Script;

use crate::support::{Program, Target};

/// As the distribution's package installs it (scripts/install-test-deps.sh).
const PGBOUNCER: &str = "/usr/sbin/pgbouncer";

/// Which differences were met.
type Met = BTreeSet<usize>;

#[test]
fn is_the_same_but_for_what_is_written_down() {
    assert!(
        Path::new(PGBOUNCER).exists(),
        "{PGBOUNCER} is missing: run scripts/install-test-deps.sh"
    );
    let version = Program::new(PGBOUNCER).args(&["--version"]).succeed();
    assert!(
        version.starts_with("PgBouncer 1.18."),
        "the differences are known for PgBouncer 1.18 only: {version}"
    );
    let mut met = Met::new();
    let mut wrong = Vec::new();
    let mut count = 0;
    for script in &script::ALL {
        let name = script.name;
        let (theirs, ours) = std::thread::scope(|scope| {
            let theirs = scope.spawn(|| play(script, Target::Pgbouncer(PGBOUNCER.into())));
            let ours = play(script, own());
            (theirs.join().expect("a transcript"), ours)
        });
        let what: Vec<_> = theirs.iter().map(|step| &step.what).collect();
        let same: Vec<_> = ours.iter().map(|step| &step.what).collect();
        assert_eq!(what, same, "{name}: the same script");
        count += what.len();
        for (theirs, ours) in theirs.into_iter().zip(ours) {
            if let Err(text) = compare(&theirs, &ours, &mut met) {
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
    let missing: Vec<_> = DIFFERENCES
        .iter()
        .filter(unlisted)
        .map(|d| d.name)
        .collect();
    assert!(missing.is_empty(), "not in docs/drop-in.md: {missing:?}");
    let unmet = (0..DIFFERENCES.len()).filter(|at| !met.contains(at));
    let unmet: Vec<_> = unmet.map(|at| (at, DIFFERENCES[at].name)).collect();
    assert!(unmet.is_empty(), "no difference any more: {unmet:?}");
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
    for step in &mut steps {
        step.mask(&pooler);
    }
    steps
}

/// Takes what is known to differ out of both; what is left must be the same.
fn compare(theirs: &Step, ours: &Step, met: &mut Met) -> Result<(), String> {
    let (mut theirs, mut ours) = (theirs.clone(), ours.clone());
    for (at, Difference { kind, .. }) in DIFFERENCES.iter().enumerate() {
        if theirs.lines == ours.lines {
            break;
        }
        let before = (theirs.clone(), ours.clone());
        match kind {
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
