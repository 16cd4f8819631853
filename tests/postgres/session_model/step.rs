//! What one client does.

use std::fmt;

use crate::support::Frontend;

#[derive(Clone)]
pub struct Step {
    pub client: usize,
    pub kind: &'static str,
    pub action: Action,
    pub text: String,
}

#[derive(Clone)]
pub enum Action {
    /// Each part but the last ends with a Flush after an Execute; the last gets so
    /// many ReadyForQuery.
    Send { parts: Vec<Frontend>, ready: usize },
    /// Leaves after this, and comes back with these parameters.
    Reconnect {
        unfinished: Frontend,
        parameters: Vec<(&'static str, &'static str)>,
    },
}

impl Step {
    pub fn send(
        client: usize,
        kind: &'static str,
        parts: Vec<Frontend>,
        ready: usize,
        text: String,
    ) -> Step {
        Step {
            client,
            kind,
            action: Action::Send { parts, ready },
            text,
        }
    }

    /// Whether somebody may be notified, or hear of it only now.
    pub fn may_notify(&self) -> bool {
        let words = ["notify", "commit", "end", "c1", "c2", "C 3"];
        words.iter().any(|word| self.text.contains(word))
    }

    /// Whether its texts name statements.
    pub fn goes_by_names(&self) -> bool {
        let words = ["prepare", "execute", "deallocate"];
        words.iter().any(|word| self.text.contains(word))
    }

    /// Whether it may run a statement that has a name.
    pub fn may_use_names(&self) -> bool {
        let words = ["run", "execute", "n1", "n2", "n3", "p1"];
        words.iter().any(|word| self.text.contains(word))
    }

    /// Whether it may change the columns of what others have prepared.
    pub fn alters_columns(&self) -> bool {
        let words = ["alter table planned", "commit prepared"];
        words.iter().any(|word| self.text.contains(word))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}: {}: {}", self.client, self.kind, self.text)
    }
}
