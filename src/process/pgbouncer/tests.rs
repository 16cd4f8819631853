//! Of a PgBouncer that does not do what it should.

use std::io::Read;
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

use super::*;
use crate::wire::frame::put_header;

const COLUMNS: [&str; 4] = ["fd", "task", "addr", "cl_waiting"];

/// A console that says to each command what `says` does, and tells in the end what it
/// was asked for.
struct Fake {
    dir: tempfile::TempDir,
    asked: JoinHandle<Vec<String>>,
}

impl Fake {
    fn new(says: impl Fn(&str) -> Vec<u8> + Send + Sync + Clone + 'static) -> Fake {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join(".s.PGSQL.1")).unwrap();
        let asked = std::thread::spawn(move || {
            // The first only looks who is there.
            drop(listener.accept().unwrap());
            // Until nobody is served any more.
            listener.set_nonblocking(true).unwrap();
            let (mut served, mut log) = (Vec::<JoinHandle<Vec<String>>>::new(), Vec::new());
            loop {
                if let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(false).unwrap();
                    let says = says.clone();
                    served.push(std::thread::spawn(move || serve(stream, says)));
                }
                if !served.is_empty() && served.iter().all(JoinHandle::is_finished) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            for one in served {
                log.extend(one.join().unwrap());
            }
            log
        });
        Fake { dir, asked }
    }

    fn suspend(self) -> (String, Vec<String>) {
        let general = Settings {
            unix_socket_dir: self.dir.path().display().to_string(),
            listen_port: 1,
            ..Settings::default()
        };
        let result = PgBouncer::suspend(&general);
        let error = format!("{:#}", result.expect_err("it cannot be taken over"));
        (error, self.asked.join().unwrap())
    }
}

fn serve(mut stream: UnixStream, says: impl Fn(&str) -> Vec<u8>) -> Vec<String> {
    let mut asked = Vec::new();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut startup = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut startup).unwrap();
    let mut greeting = message(b'R', &[0; 4]);
    greeting.extend(ready());
    stream.write_all(&greeting).unwrap();
    let mut header = [0; HEADER_LEN];
    while stream.read_exact(&mut header).is_ok() {
        let total = Header::peek(&header).unwrap().unwrap().total;
        let mut command = vec![0; total - HEADER_LEN];
        stream.read_exact(&mut command).unwrap();
        let command = String::from_utf8(command).unwrap();
        let command = command.trim_end_matches(";\0").to_owned();
        // It may have left.
        let _ = stream.write_all(&says(&command));
        asked.push(command);
    }
    asked
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    put_header(&mut message, tag, body.len());
    message.extend_from_slice(body);
    message
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

fn table(columns: &[&str], rows: &[&[&str]]) -> Vec<u8> {
    let mut body = (columns.len() as u16).to_be_bytes().to_vec();
    for name in columns {
        body.extend(name.bytes());
        body.extend([0; 19]);
    }
    let mut answer = message(b'T', &body);
    for row in rows {
        let mut body = (row.len() as u16).to_be_bytes().to_vec();
        for field in *row {
            body.extend((field.len() as u32).to_be_bytes());
            body.extend(field.bytes());
        }
        answer.extend(message(b'D', &body));
    }
    answer.extend(ready());
    answer
}

fn usual(command: &str) -> Vec<u8> {
    match command {
        "SHOW VERSION" => table(&["version"], &[&["PgBouncer 1.18.0"]]),
        "SHOW CONFIG" => table(&["key", "value"], &[&["suspend_timeout", "10"]]),
        "SHOW POOLS" => table(&COLUMNS, &[&["", "", "", "0"]]),
        "SHOW FDS" => table(&COLUMNS, &[]),
        _ => ready(),
    }
}

#[track_caller]
fn fails(says: impl Fn(&str) -> Vec<u8> + Send + Sync + Clone + 'static) -> (String, bool) {
    let (error, asked) = Fake::new(says).suspend();
    assert!(!asked.iter().any(|command| command == "SHUTDOWN"));
    (error, asked.iter().any(|command| command == "RESUME"))
}

#[test]
fn a_row_without_its_socket_is_not_believed() {
    let (error, resumed) = fails(|command| match command {
        "SHOW FDS" => table(&COLUMNS, &[&["7", "pooler", "unix", ""]]),
        other => usual(other),
    });
    assert!(error.contains("a socket is missing"), "{error}");
    assert!(resumed);
}

#[test]
fn nonsense_is_not_believed() {
    let huge = || b"D\x7f\xff\xff\xff".to_vec();
    let torn = || {
        message(b'T', b"\xff\xff")
            .into_iter()
            .chain(ready())
            .collect()
    };
    for nonsense in [huge, torn] {
        let (_, resumed) = fails(move |command| match command {
            "SHOW FDS" => nonsense(),
            other => usual(other),
        });
        assert!(resumed);
    }
}

/// By somebody else, who has a reason for it.
#[test]
fn one_that_is_paused_stays_so() {
    let (error, resumed) = fails(|command| match command {
        "SUSPEND" => {
            let mut answer = message(b'E', b"SERROR\0C08P01\0Malready suspended/paused\0\0");
            answer.extend(ready());
            answer
        }
        other => usual(other),
    });
    assert!(error.contains("already suspended/paused"), "{error}");
    assert!(!resumed);
}

#[test]
fn another_program_is_left_alone() {
    let (error, resumed) = fails(|command| match command {
        "SHOW VERSION" => table(&["version"], &[&["Odyssey 1.4"]]),
        other => usual(other),
    });
    assert_eq!(error, "Odyssey 1.4 runs there, which is no PgBouncer");
    assert!(!resumed);
}
