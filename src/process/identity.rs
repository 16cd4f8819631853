//! Whom the process runs as: `user`.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::os::unix::fs::fchown;
use std::path::Path;

use anyhow::{Context, anyhow};
use nix::unistd::{User, geteuid, initgroups, setgid, setuid};

/// Becomes this user, with its groups. Whoever is that user already changes
/// nothing; only root can become another.
pub fn assume(name: &str) -> anyhow::Result<()> {
    let user = find(name)?;
    let failed = || format!("could not assume identity of user '{name}'");
    if geteuid().is_root() {
        let c_name = CString::new(name)?;
        initgroups(&c_name, user.gid).with_context(failed)?;
    }
    setgid(user.gid).with_context(failed)?;
    setuid(user.uid).with_context(failed)
}

/// Creates a file that this user is to write, unless it is there.
pub fn create_for(name: &str, path: &Path) -> anyhow::Result<()> {
    if !geteuid().is_root() || path.exists() {
        return Ok(());
    }
    let user = find(name)?;
    let failed = || format!("cannot create {}", path.display());
    let file = OpenOptions::new().append(true).create_new(true).open(path);
    let file = file.with_context(failed)?;
    fchown(&file, Some(user.uid.as_raw()), Some(user.gid.as_raw())).with_context(failed)
}

/// The user of this name.
pub fn find(name: &str) -> anyhow::Result<User> {
    let user = User::from_name(name)?;
    user.ok_or_else(|| anyhow!("could not find user '{name}' to switch to"))
}
