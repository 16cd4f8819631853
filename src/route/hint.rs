//! What a statement asks for in the comments in front of it.

use crate::config::{Choice, Reads};
use crate::sql::{Dialect, Lexer, TokenKind};

/// A comment that begins with `pgweir:` and is not understood. Nothing of it
/// holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HintError {
    /// Not `key=value`.
    #[error("hint {0:?} is not of the form key=value")]
    Form(String),
    /// A key that there is not.
    #[error("hint {0:?} is not known; there is: role")]
    Key(String),
    /// A role that there is not.
    #[error("hint role={0:?} is not known; there are: replica, primary, any")]
    Role(String),
    /// Two roles.
    #[error("hint role is given more than once")]
    Twice,
}

/// The role that `/* pgweir: role=... */` asks for, in any of the block
/// comments in front of the first statement.
pub fn hint(sql: &[u8], dialect: Dialect) -> Result<Option<Reads>, HintError> {
    let mut role = None;
    let comments = Lexer::new(sql, dialect).take_while(|token| token.kind.is_comment());
    for comment in comments.filter(|token| token.kind == TokenKind::BlockComment) {
        let inside = comment.text.get(2..comment.text.len().saturating_sub(2));
        let inside = inside.unwrap_or_default().trim_ascii();
        let Some(hints) = inside.strip_prefix(b"pgweir:") else {
            continue;
        };
        for hint in hints
            .split(u8::is_ascii_whitespace)
            .filter(|hint| !hint.is_empty())
        {
            let asked = one(hint)?;
            if role.replace(asked).is_some() {
                return Err(HintError::Twice);
            }
        }
    }
    Ok(role)
}

fn one(hint: &[u8]) -> Result<Reads, HintError> {
    let equals = hint.iter().position(|&byte| byte == b'=');
    let Some((key, value)) = equals.and_then(|at| Some((hint.get(..at)?, hint.get(at + 1..)?)))
    else {
        return Err(HintError::Form(shown(hint)));
    };
    if key != b"role" {
        return Err(HintError::Key(shown(key)));
    }
    let mut roles = Reads::WORDS.iter();
    let role = roles.find(|(word, _)| word.as_bytes() == value);
    role.map(|(_, role)| *role)
        .ok_or_else(|| HintError::Role(shown(value)))
}

/// A client's text as it may be in a log.
fn shown(text: &[u8]) -> String {
    const LONGEST: usize = 40;
    String::from_utf8_lossy(text)
        .chars()
        .take(LONGEST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str) -> Result<Option<Reads>, HintError> {
        hint(sql.as_bytes(), Dialect::default())
    }

    #[test]
    fn roles() {
        assert_eq!(
            of("/* pgweir: role=primary */ select 1"),
            Ok(Some(Reads::Primary))
        );
        assert_eq!(
            of(" -- x\n/*a*//*pgweir:role=replica*/select 1"),
            Ok(Some(Reads::Replica))
        );
        assert_eq!(of("/* pgweir:\n role=any\t*/"), Ok(Some(Reads::Any)));
    }

    #[test]
    fn other_comments_say_nothing() {
        for text in [
            "",
            "select 1 /* pgweir: role=primary */",
            "-- pgweir: role=primary\nselect 1",
            "/* app: role=primary */ select 1",
            "/* pgweir: */ select 1",
            "/* pgweir: role=primary",
            "/**/",
            "/*/",
        ] {
            assert_eq!(of(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_told() {
        let form = |text: &str| Err(HintError::Form(text.to_owned()));
        assert_eq!(of("/* pgweir: primary */"), form("primary"));
        assert_eq!(of("/* pgweir: role = primary */"), form("role"));
        assert_eq!(
            of("/* pgweir: cache=1 */"),
            Err(HintError::Key("cache".to_owned()))
        );
        assert_eq!(
            of("/* pgweir: role=Primary */"),
            Err(HintError::Role("Primary".to_owned()))
        );
        assert_eq!(of("/* pgweir: role=any role=any */"), Err(HintError::Twice));
        assert_eq!(
            of("/* pgweir: role=any *//* pgweir: role=any */"),
            Err(HintError::Twice)
        );
        let long = "x".repeat(1000);
        assert_eq!(of(&format!("/* pgweir: {long} */")), form(&"x".repeat(40)));
    }
}
