use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Frontend;

/// A server that is no PostgreSQL: it gives each startup packet this answer, and
/// then waits for the end. Returns how many it has answered.
pub fn answering(listener: TcpListener, answer: &Frontend) -> Arc<AtomicU32> {
    let count = Arc::new(AtomicU32::new(0));
    let (answered, answer) = (count.clone(), answer.bytes.clone());
    serving(listener, move |stream| {
        answered.fetch_add(1, Ordering::Relaxed);
        stream.write_all(&answer)
    });
    count
}

/// A server that asks for a SCRAM proof, takes any, and gives `last` as its own: the
/// server-final-message.
pub fn answering_scram(listener: TcpListener, last: &'static str) {
    let request = |number: u32, data: &[u8]| {
        let body = [&number.to_be_bytes(), data].concat();
        Frontend::new().message(b'R', &body).bytes
    };
    serving(listener, move |stream| {
        stream.write_all(&request(10, b"SCRAM-SHA-256\0\0"))?;
        let first = read_message(stream)?;
        let first = String::from_utf8_lossy(&first);
        let (_, nonce) = first.rsplit_once("r=").expect("a nonce");
        let challenge = format!("r={nonce}more,s=c2FsdHNhbHRzYWx0c2FsdA==,i=4096");
        stream.write_all(&request(11, challenge.as_bytes()))?;
        read_message(stream)?;
        stream.write_all(&request(12, last.as_bytes()))
    });
}

/// Does this with each connection when its startup packet has come, and then waits for
/// the end.
fn serving(
    listener: TcpListener,
    serve: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + 'static,
) {
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            if read_startup(&mut stream).is_ok() && serve(&mut stream).is_ok() {
                let _ = stream.read(&mut [0]);
            }
        }
    });
}

fn read_message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    stream.read_exact(&mut [0])?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut body)?;
    Ok(body)
}

fn read_startup(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    stream.read_exact(&mut vec![0; u32::from_be_bytes(length) as usize - 4])
}
