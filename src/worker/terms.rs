use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::admin::snapshot::Snapshot;
use crate::admin::view::ConsoleView;
use crate::auth::UserList;
use crate::client::auth::AuthContext;
use crate::config::Config;

/// A configuration with everything that was read along with it. Replaced as a
/// whole by a reload.
#[derive(Debug)]
pub struct Terms {
    pub config: Config,
    /// `auth_file` and the users of the TOML file.
    pub users: UserList,
    pub auth: AuthContext,
}

/// How to get what the console shows beside snapshots.
#[derive(Clone)]
pub struct View(pub Arc<dyn Fn(&Snapshot) -> ConsoleView + Send + Sync>);

impl Deref for View {
    type Target = dyn Fn(&Snapshot) -> ConsoleView + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("View")
    }
}
