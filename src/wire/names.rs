//! Names inside Parse, Bind, Describe and Close, found by offset.

use memchr::memchr;

const SHORT: usize = 8;

/// A Parse message's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseView<'a> {
    /// Name of the statement, without its NUL; empty = unnamed.
    pub name: &'a [u8],
    /// Query text with its NUL, and the parameter types: everything that
    /// makes two statements the same.
    pub definition: &'a [u8],
}

/// Splits a whole Parse body. `None`: not a Parse body.
pub fn parse(body: &[u8]) -> Option<ParseView<'_>> {
    let (name, definition) = split_nul(body)?;
    let (_, types) = split_nul(definition)?;
    let count = u16::from_be_bytes(*types.first_chunk()?);
    (types.len() == 2 + 4 * usize::from(count)).then_some(ParseView { name, definition })
}

/// The front of a Bind message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindView<'a> {
    /// Name of the portal, without its NUL.
    pub portal: &'a [u8],
    /// Name of the statement, without its NUL; empty = unnamed.
    pub statement: &'a [u8],
    /// Where in the body the parameters begin.
    pub rest: usize,
}

/// Finds both names at the front of a Bind body, which may be incomplete.
/// `None`: the names have not ended yet.
pub fn bind(body: &[u8]) -> Option<BindView<'_>> {
    let (portal, after) = split_nul(body)?;
    let (statement, rest) = split_nul(after)?;
    Some(BindView {
        portal,
        statement,
        rest: body.len() - rest.len(),
    })
}

/// How many formats of result columns a whole Bind body has: none or one is for
/// whatever columns there are. `None`: not a Bind body.
pub fn result_formats(body: &[u8]) -> Option<u16> {
    let count = |bytes: &[u8]| Some(usize::from(u16::from_be_bytes(*bytes.first_chunk()?)));
    let formats = body.get(bind(body)?.rest..)?;
    let mut rest = formats.get(2 + 2 * count(formats)?..)?;
    let parameters = count(rest)?;
    rest = rest.get(2..)?;
    for _ in 0..parameters {
        (_, rest) = column(rest)?;
    }
    let formats = count(rest)?;
    (rest.len() == 2 + 2 * formats).then_some(formats as u16)
}

/// What Describe and Close speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    Statement(&'a [u8]),
    Portal(&'a [u8]),
}

/// Splits a whole Describe or Close body. `None`: not such a body.
pub fn target(body: &[u8]) -> Option<Target<'_>> {
    let (kind, name) = body.split_first()?;
    let (name, rest) = split_nul(name)?;
    match kind {
        _ if !rest.is_empty() => None,
        b'S' => Some(Target::Statement(name)),
        b'P' => Some(Target::Portal(name)),
        _ => None,
    }
}

/// Splits at the first NUL, which belongs to neither part.
pub fn split_nul(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    // Names are short and mostly empty: to begin a search takes longer than that.
    let nul = match bytes.iter().take(SHORT).position(|&byte| byte == 0) {
        Some(at) => at,
        None => SHORT + memchr(0, bytes.get(SHORT..)?)?,
    };
    Some((bytes.get(..nul)?, bytes.get(nul + 1..)?))
}

/// The columns of a DataRow that has two; `None` is NULL.
pub fn two_columns(body: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let rest = body.strip_prefix(&[0, 2])?;
    let (first, rest) = column(rest)?;
    let (second, rest) = column(rest)?;
    rest.is_empty().then_some((first?, second))
}

fn column(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    match i32::from_be_bytes(*length) {
        -1 => Some((None, rest)),
        length => {
            let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            Some((Some(value), rest))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_any_length_end_at_their_nul() {
        for length in 0..3 * SHORT {
            let mut bytes = vec![b'x'; length];
            assert_eq!(split_nul(&bytes), None);
            bytes.extend(b"\0rest\0");
            let split = split_nul(&bytes);
            assert_eq!(split, Some((&bytes[..length], b"rest\0".as_slice())));
        }
    }

    #[test]
    fn parse_bodies() {
        let body = b"s1\0select $1\0\0\x01\0\0\0\x17";
        let view = parse(body).unwrap();
        assert_eq!(view.name, b"s1");
        assert_eq!(view.definition, b"select $1\0\0\x01\0\0\0\x17");
        for cut in 0..body.len() {
            assert_eq!(parse(&body[..cut]), None, "cut at {cut}");
        }
        assert_eq!(parse(b"\0\0\0\0x"), None, "leftovers");
    }

    #[test]
    fn bind_names_are_found_before_the_parameters_arrive() {
        let view = bind(b"p\0s1\0\0\0").unwrap();
        assert_eq!((view.portal, view.statement), (&b"p"[..], &b"s1"[..]));
        assert_eq!(view.rest, 5);
        assert_eq!(bind(b"p\0s1"), None);
    }

    #[test]
    fn formats_behind_the_parameters() {
        let front = b"p\0s1\0\0\x01\0\x01\0\x02\0\0\0\x03abc\xff\xff\xff\xff";
        for formats in [&[][..], &[1], &[0, 1, 0]] {
            let count = formats.len() as u16;
            let codes = formats.iter().flat_map(|code: &u16| code.to_be_bytes());
            let body: Vec<u8> = front
                .iter()
                .copied()
                .chain(count.to_be_bytes())
                .chain(codes)
                .collect();
            assert_eq!(result_formats(&body), Some(count));
            for cut in 0..body.len() {
                assert_eq!(result_formats(&body[..cut]), None, "cut at {cut}");
            }
        }
    }

    #[test]
    fn rows_of_two_columns() {
        let row = b"\0\x02\0\0\0\x01a\xff\xff\xff\xff";
        assert_eq!(two_columns(row), Some((&b"a"[..], None)));
        assert_eq!(
            two_columns(b"\0\x02\0\0\0\0\0\0\0\x01b"),
            Some((&b""[..], Some(&b"b"[..])))
        );
        for cut in 0..row.len() {
            assert_eq!(two_columns(&row[..cut]), None, "cut at {cut}");
        }
        assert_eq!(two_columns(b"\0\x02\x7f\xff\xff\xffa"), None);
    }

    #[test]
    fn targets() {
        assert_eq!(target(b"Ss1\0"), Some(Target::Statement(b"s1")));
        assert_eq!(target(b"P\0"), Some(Target::Portal(b"")));
        for bad in [&b""[..], b"S", b"Sx", b"Xx\0", b"Sx\0y"] {
            assert_eq!(target(bad), None);
        }
    }
}
