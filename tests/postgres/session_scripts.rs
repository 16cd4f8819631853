//! Nobody notices transaction pooling: psql prints for a script through pgweir
//! what it prints without, while other clients use the same four server
//! connections and leave on them whatever they can; and afterwards these are as
//! good as new.
//!
//! The scripts are in tests/corpus/session, and PostgreSQL's own regression
//! tests as a package of the registry carries them. `SCRIPTS=a,b` plays some of
//! them only, `PLAYED=<dir>` keeps what was printed. `CORPUS=all
//! PGWEIR_TEST_LIMIT=3600` plays all of PostgreSQL's, which takes a quarter of an
//! hour.

mod known;
mod noise;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use known::Known;
use noise::Traces;
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

/// They print what others in their database lock or drop, or lock catalogs that
/// others are at.
const WATCHFUL: [&str; 3] = ["advisory_lock", "event_trigger", "reindex_catalog"];

/// Its commands are those of psql 18; an older one repeats a query for ever in it.
const LEFT_OUT: &str = "psql_pipeline";

/// Some servers die of it, without a pooler.
const DEADLY: &str = "VARIADIC NULL::int[]";

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
                    let traces = match WATCHFUL.contains(&&*stem(script)) {
                        true => Traces::Hidden,
                        false => Traces::Visible,
                    };
                    let played = stage.play(number, script, traces);
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

/// The script, or a copy of it that says in their place that they are missing.
fn without_deadly_lines(script: PathBuf) -> PathBuf {
    let text = fs::read(&script).unwrap();
    let is_deadly = |line: &[u8]| {
        line.windows(DEADLY.len())
            .any(|part| part == DEADLY.as_bytes())
    };
    let lines: Vec<_> = text.split(|byte| *byte == b'\n').collect();
    if !lines.iter().any(|line| is_deadly(line)) {
        return script;
    }
    let kept = lines.into_iter().map(|line| match is_deadly(line) {
        true => b"-- left out",
        false => line,
    });
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(script.file_name().unwrap());
    fs::write(&copy, kept.collect::<Vec<_>>().join(&b'\n')).unwrap();
    copy
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

fn keep(dir: &Path, name: &str, played: &Played) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join(format!("{name}.direct")), played.direct.join("\n")).unwrap();
    fs::write(dir.join(format!("{name}.pooled")), played.pooled.join("\n")).unwrap();
    let found = [&played.left[..], &played.surprises].concat();
    fs::write(dir.join(format!("{name}.found")), found.join("\n")).unwrap();
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
        let count = |lines: &[&str], line: &str| lines.iter().filter(|l| **l == line).count();
        let lines: Vec<&str> = found.iter().map(String::as_str).collect();
        let listed = known.map(|known| known.lines).unwrap_or_default();
        let as_known = lines
            .iter()
            .all(|line| count(&lines, line) <= count(listed, line));
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
        name != LEFT_OUT && (everything() || SAMPLE.contains(&&*name))
    };
    let chosen = all.into_iter().filter(is_chosen).map(without_deadly_lines);
    let chosen: Vec<_> = chosen.collect();
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
