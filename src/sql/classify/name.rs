//! Identifiers and the names that the server makes of them.

/// PostgreSQL's limit of an identifier, with the NUL that ends it.
const NAMEDATALEN: usize = 64;

/// Room for two folded names with a NUL between them.
pub(super) type Buffer = [u8; 2 * NAMEDATALEN];

/// An identifier as it stands in the text, and the one before its dot. A
/// quoted one begins with its quote.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    pub schema: Option<&'a [u8]>,
    pub name: &'a [u8],
}

impl<'a> Path<'a> {
    pub(super) fn of(name: &'a [u8]) -> Self {
        Path { schema: None, name }
    }

    pub(super) fn is_quoted(&self) -> bool {
        self.name.first() == Some(&b'"')
    }
}

/// The catalog's key of `path`: `name`, or `schema`, NUL and `name`.
///
/// `None` if that depends on what only the server knows: bytes above 127
/// (folding and cutting off happen in the server's encoding) and names that
/// are cut off; and if it holds a doubled quote, which nobody writes.
#[inline]
pub(super) fn key<'b>(path: &Path<'b>, buffer: &'b mut Buffer) -> Option<&'b [u8]> {
    let (name, folded) = inner(path.name)?;
    let Some(schema) = path.schema else {
        if folded {
            return Some(name);
        }
        let out = buffer.get_mut(..name.len())?;
        out.copy_from_slice(name);
        out.make_ascii_lowercase();
        return Some(out);
    };
    let (schema, schema_folded) = inner(schema)?;
    let out = buffer.get_mut(..schema.len() + 1 + name.len())?;
    let (front, back) = out.split_at_mut(schema.len());
    front.copy_from_slice(schema);
    if !schema_folded {
        front.make_ascii_lowercase();
    }
    let (nul, back) = back.split_first_mut()?;
    *nul = 0;
    back.copy_from_slice(name);
    if !folded {
        back.make_ascii_lowercase();
    }
    Some(out)
}

/// An identifier without its quotes, and whether its letters are as the server
/// takes them.
#[inline]
fn inner(ident: &[u8]) -> Option<(&[u8], bool)> {
    let (name, quoted) = match ident {
        [b'"', name @ .., b'"'] => (name, true),
        name => (name, false),
    };
    let (mut seen, mut upper) = (0, false);
    for &byte in name {
        seen |= byte;
        upper |= byte.is_ascii_uppercase();
    }
    let plain = seen < 128 && name.len() < NAMEDATALEN && !(quoted && name.contains(&b'"'));
    plain.then_some((name, quoted || !upper))
}

/// Whether two identifiers certainly are the same name.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    let quoted = a.first() == Some(&b'"') || b.first() == Some(&b'"');
    if !quoted {
        return a.eq_ignore_ascii_case(b);
    }
    let (mut left, mut right): (Buffer, Buffer) = ([0; 128], [0; 128]);
    let left = key(&Path::of(a), &mut left);
    left.is_some() && left == key(&Path::of(b), &mut right)
}
