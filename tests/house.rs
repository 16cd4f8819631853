//! The rules of the house that a compiler does not check; see
//! docs/architecture.md.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Rooms without sockets, clock, runtime and files.
const PURE: [&str; 8] = [
    "wire", "sql", "auth", "config", "pool", "flow", "route", "stats",
];
const IMPURE: [&str; 6] = [
    "tokio",
    "std::net",
    "std::fs",
    "Instant::now",
    "SystemTime::now",
    "std::thread",
];
/// Code without its tests; 500 is the guide, this is the end.
const LONGEST_FILE: usize = 700;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// The lines of a source file with their numbers, without unit tests and
/// comments.
fn code(path: &Path) -> Vec<(usize, String)> {
    let is_test = |part: &str| part == "tests" || part == "tests.rs";
    if path.iter().any(|part| is_test(&part.to_string_lossy())) {
        return Vec::new();
    }
    let text = fs::read_to_string(path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    // By the house's habit the tests stand last in a file.
    let end = lines
        .windows(2)
        .position(|two| two[0] == "#[cfg(test)]" && two[1].ends_with('{'))
        .unwrap_or(lines.len());
    let numbered = lines[..end].iter().enumerate();
    let without_comment = |line: &str| match line.split_once("//") {
        Some((before, _)) => before.to_owned(),
        None => line.to_owned(),
    };
    numbered
        .map(|(at, line)| (at + 1, without_comment(line)))
        .collect()
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
}

fn pure_code() -> Vec<(PathBuf, usize, String)> {
    let mut all = Vec::new();
    for room in PURE {
        for path in files(&root().join("src").join(room), ".rs") {
            for (at, line) in code(&path) {
                all.push((path.clone(), at, line));
            }
        }
    }
    assert!(all.len() > 1000, "the pure rooms were not found");
    all
}

#[test]
fn pure_rooms_know_no_sockets_clock_runtime_or_files() {
    let mut offences = Vec::new();
    for (path, at, line) in pure_code() {
        for word in IMPURE.iter().filter(|word| line.contains(*word)) {
            offences.push(format!("{}:{at} mentions {word}", name(&path)));
        }
    }
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn pure_rooms_use_only_pure_rooms() {
    let mut offences = Vec::new();
    for (path, at, line) in pure_code() {
        for rest in line.split("crate::").skip(1) {
            let room = words(rest).next().unwrap_or_default();
            let is_module = room.starts_with(|c: char| c.is_ascii_lowercase());
            if is_module && !PURE.contains(&room) {
                offences.push(format!("{}:{at} uses {room}", name(&path)));
            }
        }
    }
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn unsafe_stays_in_one_file_and_says_why() {
    for path in files(&root().join("src"), ".rs") {
        for (at, line) in code(&path) {
            if !words(&line).any(|word| word == "unsafe") {
                continue;
            }
            let place = format!("{}:{at}", name(&path));
            assert_eq!(name(&path), "src/reactor/ring.rs", "{place}: unsafe");
            let text = fs::read_to_string(&path).unwrap();
            let above: Vec<&str> = text.lines().take(at).collect();
            let reason = above.iter().rev().take(6).any(|l| l.contains("SAFETY:"));
            assert!(reason, "{place}: unsafe without a SAFETY line");
        }
    }
}

#[test]
fn files_stay_readable() {
    let mut too_long = Vec::new();
    for path in files(&root().join("src"), ".rs") {
        let lines = code(&path).len();
        if lines > 500 {
            println!("{lines:5} lines: {}", name(&path));
        }
        if lines > LONGEST_FILE {
            too_long.push(name(&path));
        }
    }
    assert!(
        too_long.is_empty(),
        "over {LONGEST_FILE} lines: {too_long:?}"
    );
}

#[test]
fn every_room_is_in_the_architecture() {
    let text = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let entry = entry.unwrap();
        let room = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            let shown = text.contains(&format!("| `{room}/`"));
            assert!(shown, "docs/architecture.md has no line for src/{room}/");
        }
    }
}

fn pages() -> Vec<PathBuf> {
    let mut pages = files(&root().join("docs"), ".md");
    pages.push(root().join("README.md"));
    pages.push(root().join("CHANGELOG.md"));
    pages
}

/// What stands between the two texts, each time.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    let parts = text.split(open).skip(1);
    parts
        .filter_map(|rest| Some(rest.split_once(close)?.0))
        .collect()
}

#[test]
fn links_in_the_docs_lead_somewhere() {
    let mut checked = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in between(&text, "](", ")") {
            let (file, _) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://") || file.is_empty() {
                continue;
            }
            let target = page.parent().unwrap().join(file);
            assert!(target.exists(), "{}: broken link {link}", name(&page));
            checked += 1;
        }
    }
    assert!(checked > 10);
}

/// The top folders whose files the docs may name, and the rooms of src/.
fn is_place(folder: &str) -> bool {
    let top = [
        "benches", "config", "docker", "docs", "scripts", "src", "tests",
    ];
    top.contains(&folder) || root().join("src").join(folder).is_dir()
}

#[test]
fn files_named_in_the_docs_exist_and_scripts_run() {
    let mut checked = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for word in text.split(|c: char| c.is_whitespace() || "`()|,;[]".contains(c)) {
            let word = word.trim_end_matches(['.', ':']);
            let named = word
                .split_once('/')
                .is_some_and(|(top, _)| !top.is_empty() && is_place(top));
            if !named || word.contains(['<', '*', '{']) {
                continue;
            }
            let mut path = root().join(word);
            if !path.exists() {
                path = root().join("src").join(word);
            }
            assert!(path.exists(), "{} names {word}", name(&page));
            if word.ends_with(".sh") {
                let mode = path.metadata().unwrap().permissions().mode();
                assert!(mode & 0o111 != 0, "{word} is not executable");
            }
            checked += 1;
        }
    }
    assert!(checked > 20);
}

#[test]
fn every_page_is_in_the_summary() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    for page in files(&root().join("docs"), ".md") {
        let file = page.file_name().unwrap().to_string_lossy().into_owned();
        if file != "SUMMARY.md" {
            assert!(summary.contains(&format!("({file})")), "SUMMARY: {file}");
        }
    }
}
