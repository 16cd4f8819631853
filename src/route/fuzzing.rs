//! Bodies of the fuzz targets: each takes any bytes and panics if a promise
//! of this room is broken.

use super::hint;
use crate::sql::Dialect;

/// A hint needs its comment, and means the same wherever the statement ends.
pub fn fuzz_hint(data: &[u8]) {
    let found = hint(data, Dialect::default());
    if found != Ok(None) {
        assert!(memchr::memmem::find(data, b"pgweir:").is_some());
        let more = [data, b" select 1"].concat();
        assert_eq!(hint(&more, Dialect::default()), found);
    }
}
