//! Who is at the other end of a Unix socket.

use std::io;
use std::os::fd::AsFd;

/// The user id of the process that has connected, or listens.
///
/// # Errors
/// The kernel cannot tell.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn user(socket: &impl AsFd) -> io::Result<u32> {
    Ok(credentials(socket)?.uid())
}

/// Its process id, where the kernel tells it.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn process(socket: &impl AsFd) -> Option<u32> {
    let pid = credentials(socket).ok()?.pid();
    u32::try_from(pid).ok()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn credentials(socket: &impl AsFd) -> nix::Result<nix::sys::socket::UnixCredentials> {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
    getsockopt(socket, PeerCredentials)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn user(socket: &impl AsFd) -> io::Result<u32> {
    let (user, _) = nix::unistd::getpeereid(socket)?;
    Ok(user.as_raw())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn process(_socket: &impl AsFd) -> Option<u32> {
    None
}
