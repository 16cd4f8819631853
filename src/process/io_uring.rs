//! Whether workers send by io_uring.

use anyhow::Context;
use tracing::info;

use crate::config::IoUring;
use crate::reactor;

/// What the setting says, and the kernel allows.
pub fn decide(setting: IoUring) -> anyhow::Result<bool> {
    if setting == IoUring::Off {
        return Ok(false);
    }
    match reactor::has_ring() {
        Ok(()) => Ok(true),
        Err(error) if setting == IoUring::Auto => {
            info!(
                reason = %error,
                "no io_uring(7) (kernel.io_uring_disabled, seccomp, a kernel before 5.6?): \
                 each message is sent by a system call of its own; io_uring=off hides this"
            );
            Ok(false)
        }
        Err(error) => Err(error).context(
            "io_uring=on, but the kernel does not let this process use it; allow it \
             (sysctl kernel.io_uring_disabled=0, the container's seccomp profile, Linux 5.6), \
             or set io_uring=auto",
        ),
    }
}
