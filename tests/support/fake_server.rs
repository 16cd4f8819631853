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
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            if read_startup(&mut stream).is_ok() {
                answered.fetch_add(1, Ordering::Relaxed);
                let _ = stream.write_all(&answer);
                let _ = stream.read(&mut [0]);
            }
        }
    });
    count
}

fn read_startup(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    stream.read_exact(&mut vec![0; u32::from_be_bytes(length) as usize - 4])
}
