//! Mistakes in a configuration: all of them, each with its place.

use std::fmt;
use std::sync::Arc;

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// A file's name, or what stands in its place (`environment`).
    pub file: Arc<str>,
    /// Counted from 1; `None` if there are no lines.
    pub line: Option<usize>,
}

impl Place {
    /// A line of a file.
    pub fn line(file: &Arc<str>, line: usize) -> Place {
        Place {
            file: Arc::clone(file),
            line: Some(line),
        }
    }

    /// A file as a whole, or a source without lines.
    pub fn whole(file: impl Into<Arc<str>>) -> Place {
        Place {
            file: file.into(),
            line: None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file),
            None => write!(f, "{}", self.file),
        }
    }
}

/// One mistake: `file:line: message`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    pub place: Place,
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Why a configuration cannot be used: every mistake, in the order of the file.
/// Displays as one line for each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct LoadError(pub Vec<Mistake>);

fn lines(mistakes: &[Mistake]) -> String {
    let lines: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
    lines.join("\n")
}
