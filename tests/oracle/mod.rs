//! What the tests with an oracle in Python share.

// No single test program uses all of it.
#![allow(dead_code)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// The answer of a script of tests/oracle to each case.
pub fn answers(script: &str, cases: &[String]) -> Vec<Value> {
    let mut child = Command::new(python())
        .arg(root().join("tests/oracle").join(script))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = BufWriter::new(child.stdin.take().unwrap());
    let output = BufReader::new(child.stdout.take().unwrap());
    let answers: Vec<Value> = std::thread::scope(|scope| {
        scope.spawn(move || {
            for case in cases {
                writeln!(input, "{}", Value::from(case.as_str())).unwrap();
            }
        });
        output
            .lines()
            .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
            .collect()
    });
    assert!(child.wait().unwrap().success());
    assert_eq!(answers.len(), cases.len());
    answers
}

/// Statements out of packages in the registry, see classify_corpus.py.
pub fn corpus(files: &[&str]) -> Vec<String> {
    let output = Command::new(python())
        .arg(root().join("tests/oracle/classify_corpus.py"))
        .arg(root().join("target/corpus"))
        .args(files)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The Python of `target/venv`, made here if need be, with what the oracle
/// requires. The test fails, and is not skipped, if that cannot be had.
pub fn python() -> PathBuf {
    let venv = root().join("target/venv");
    let python = venv.join("bin/python");
    fs::create_dir_all(root().join("target")).unwrap();
    let lock = File::create(root().join("target/venv.lock")).unwrap();
    lock.lock().unwrap();
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
    }
    let requirements = root().join("tests/oracle/requirements.txt");
    let installed = venv.join("oracle-requirements.txt");
    if fs::read(&requirements).unwrap() != fs::read(&installed).unwrap_or_default() {
        run(Command::new(&python)
            .args(["-m", "pip", "install", "-q", "-r"])
            .arg(&requirements));
        fs::copy(&requirements, &installed).unwrap();
    }
    python
}

pub fn run(command: &mut Command) {
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}
