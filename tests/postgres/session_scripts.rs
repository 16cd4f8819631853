//! Nobody notices transaction pooling: psql prints for a script through pgweir
//! what it prints without, while other clients use the same four server
//! connections and leave on them whatever they can; and afterwards these are as
//! good as new.
//!
//! The scripts are in tests/corpus/session, and PostgreSQL's own regression
//! tests as a package of the registry carries them. `SCRIPTS=a,b` plays some of
//! them only, `PLAYED=<dir>` keeps what was printed. `CORPUS=all
//! PGWEIR_TEST_LIMIT=3600` plays all of PostgreSQL's, which takes half an hour.

mod known;
mod noise;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use known::{Extent, Known};
use stage::{Played, Stage, scripts};

use crate::oracle;
use crate::support::{Setup, Target};

/// Those of PostgreSQL's regression tests that have most to do with sessions.
const SAMPLE: [&str; 23] = [
    "async",
    "combocid",
    "copyselect",
    "create_procedure",
    "errors",
    "guc",
    "largeobject",
    "limit",
    "lock",
    "mvcc",
    "namespace",
    "plancache",
    "portals",
    "portals_p2",
    "prepare",
    "prepared_xacts",
    "psql",
    "select_into",
    "sequence",
    "temp",
    "transactions",
    "truncate",
    "txid",
];

const LEFT_OUT: [&str; 8] = [
    // They look at what others do: all locks of the database, all that is dropped.
    "advisory_lock",
    "event_trigger",
    // What they create is not in a database, and there when they are played again.
    "misc_functions",
    "subscription",
    "tablespace",
    "test_setup",
    // Its commands are those of a newer psql.
    "psql_pipeline",
    // Some servers die of it, without a pooler (satisfies_hash_partition with a
    // NULL array).
    "hash_part",
];

type Results = BTreeMap<String, Played>;

/// Plays all on stages of their own, side by side.
fn play_all(stages: &[Stage], scripts: &[PathBuf]) -> Results {
    let only = std::env::var("SCRIPTS").ok();
    let chosen = |path: &&PathBuf| match &only {
        None => true,
        Some(names) => names.split(',').any(|name| name == stem(path)),
    };
    let scripts: Vec<_> = scripts.iter().filter(chosen).collect();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Results::new());
    std::thread::scope(|scope| {
        for stage in stages {
            let (next, results, scripts) = (&next, &results, &scripts);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(script) = scripts.get(number) else {
                        return;
                    };
                    let played = stage.play(number, script);
                    if let Ok(dir) = std::env::var("PLAYED") {
                        keep(Path::new(&dir), &stem(script), &played);
                    }
                    results.lock().unwrap().insert(stem(script), played);
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    assert_eq!(results.len(), scripts.len());
    results
}

fn everything() -> bool {
    std::env::var("CORPUS").is_ok_and(|which| which == "all")
}

/// Where scripts/install-test-deps.sh puts them.
fn regression_scripts() -> PathBuf {
    let corpus = fs::read_dir("target/corpus").unwrap();
    let paths = corpus.map(|entry| entry.unwrap().path());
    let mut all = paths.map(|path| path.join("libpg_query/test/sql/postgres_regress"));
    all.find(|path| path.exists()).unwrap()
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

fn keep(dir: &Path, name: &str, played: &Played) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join(format!("{name}.direct")), played.direct.join("\n")).unwrap();
    fs::write(dir.join(format!("{name}.pooled")), played.pooled.join("\n")).unwrap();
}

/// The lines that only one of two texts has, `-` the first and `+` the second:
/// a longest common subsequence is left out.
fn differences(one: &[String], other: &[String]) -> Vec<String> {
    let start = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let (one, other) = (&one[start..], &other[start..]);
    let end = one.iter().rev().zip(other.iter().rev());
    let end = end.take_while(|(a, b)| a == b).count();
    let (one, other) = (&one[..one.len() - end], &other[..other.len() - end]);
    // lengths[i][j]: the longest common subsequence of what follows i and j.
    let mut lengths = vec![vec![0u32; other.len() + 1]; one.len() + 1];
    for i in (0..one.len()).rev() {
        for j in (0..other.len()).rev() {
            lengths[i][j] = match one[i] == other[j] {
                true => lengths[i + 1][j + 1] + 1,
                false => lengths[i + 1][j].max(lengths[i][j + 1]),
            };
        }
    }
    let (mut i, mut j, mut found) = (0, 0, Vec::new());
    while i < one.len() || j < other.len() {
        if i < one.len() && j < other.len() && one[i] == other[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == other.len() || i < one.len() && lengths[i + 1][j] >= lengths[i][j + 1] {
            found.push(format!("- {}", one[i]));
            i += 1;
        } else {
            found.push(format!("+ {}", other[j]));
            j += 1;
        }
    }
    found
}

/// All that is wrong with what was played, but for what is known.
fn judge(results: &Results, known: &[Known]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, played) in results {
        let known = known.iter().find(|known| known.script == name);
        let found = differences(&played.direct, &played.pooled);
        let listed = |lines: &[&str]| found.iter().all(|line| lines.contains(&line.as_str()));
        let as_known = match known.map(|known| &known.extent) {
            None => found.is_empty(),
            Some(Extent::Open) => continue,
            Some(Extent::Sometimes(lines)) => listed(lines),
            Some(Extent::Always(lines)) => listed(lines) && found.len() == lines.len(),
        };
        if !as_known {
            wrong.push(format!("{name} differs:\n{}", found.join("\n")));
            wrong.extend(known.map(|known| format!("{known:#?}")));
        }
        if !played.left.is_empty() {
            wrong.push(format!("{name} leaves:\n{}", played.left.join("\n")));
        }
        if let Some(first) = played.surprises.first() {
            let count = played.surprises.len();
            wrong.push(format!("{name} disturbs others, {count} times: {first}"));
        }
    }
    wrong
}

fn equal(results: &Results) -> usize {
    let same = |played: &&Played| played.direct == played.pooled;
    results.values().filter(same).count()
}

#[test]
fn own_scripts_print_the_same() {
    let stages = [(); 2].map(|()| Stage::new(None, |setup| setup));
    let scripts = scripts(Path::new("tests/corpus/session"));
    let results = play_all(&stages, &scripts);
    println!(
        "{} of {} scripts print the same",
        equal(&results),
        results.len()
    );
    let wrong = judge(&results, known::OWN);
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    for known in known::OWN {
        let listed = scripts.iter().any(|path| stem(path) == known.script);
        assert!(listed, "no script {}", known.script);
    }
    let docs = fs::read_to_string("docs/transaction-mode.md").unwrap();
    for known in known::OWN.iter().chain(known::REGRESSION) {
        let row = format!("| {} |", known.name);
        assert!(docs.contains(&row), "not in the docs: {}", known.name);
    }
}

/// PostgreSQL's regression tests, as far as they can be had: their data files and
/// C functions are missing, and so are tables that need them.
#[test]
fn regression_scripts_print_the_same() {
    oracle::corpus(&[]);
    let all = scripts(&regression_scripts());
    assert!(all.len() > 200, "the corpus is gone");
    let setup = regression_scripts().join("test_setup.sql");
    let stages = [(); 2].map(|()| Stage::new(Some(&setup), |setup| setup));
    let is_chosen = |path: &PathBuf| {
        let name = stem(path);
        !LEFT_OUT.contains(&&*name) && (everything() || SAMPLE.contains(&&*name))
    };
    let chosen: Vec<_> = all.into_iter().filter(is_chosen).collect();
    let mut results = play_all(&stages, &chosen);
    // What two direct sessions print differently is no finding.
    for (number, script) in chosen.iter().enumerate() {
        let played = results.get_mut(&stem(script));
        if let Some(played) = played.filter(|played| played.direct != played.pooled) {
            ignore_changing_lines(played, &stages[0].directly(number, script));
        }
    }
    let lines: usize = results.values().map(|played| played.direct.len()).sum();
    println!(
        "{} of {} regression tests print the same {lines} lines",
        equal(&results),
        results.len()
    );
    let wrong = judge(&results, known::REGRESSION);
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn ignore_changing_lines(played: &mut Played, again: &[String]) {
    let changing = |lines: &[String]| {
        let found = differences(lines, again).into_iter();
        found.filter_map(|line| line.strip_prefix("- ").map(str::to_owned))
    };
    let mut unsure: BTreeSet<String> = changing(&played.direct).collect();
    let more = differences(again, &played.direct).into_iter();
    unsure.extend(more.filter_map(|line| line.strip_prefix("- ").map(str::to_owned)));
    let digits = |line: &String| line.replace(|c: char| c.is_ascii_digit(), "");
    let unsure: BTreeSet<String> = unsure.iter().map(digits).collect();
    for lines in [&mut played.direct, &mut played.pooled] {
        lines.retain(|line| !unsure.contains(&digits(line)));
    }
}

/// That the scripts can tell: through PgBouncer many print something else.
/// `cargo test --test postgres session_scripts -- --ignored --nocapture`
/// shows how many.
#[test]
#[ignore = "measures another program"]
fn own_scripts_through_pgbouncer() {
    let target = Target::Pgbouncer("/usr/sbin/pgbouncer".into());
    let other = &|setup: Setup| {
        let setup = setup.by(target.clone()).unset("max_pinned_connections");
        setup.set("ignore_startup_parameters", "options")
    };
    let stages = [(); 2].map(|()| Stage::new(None, other));
    let scripts = scripts(Path::new("tests/corpus/session"));
    let results = play_all(&stages, &scripts);
    for (name, played) in &results {
        let found = differences(&played.direct, &played.pooled);
        println!("{name}: {} lines differ", found.len());
    }
    println!(
        "{} of {} scripts print the same",
        equal(&results),
        results.len()
    );
    assert!(equal(&results) < results.len());
}
