//! Rows that the server sends to us.

/// The fields of a DataRow's body, `None` for NULL; all of it `None`: not one.
pub fn data_row(body: &[u8]) -> Option<Vec<Option<Vec<u8>>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut row = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        match usize::try_from(i32::from_be_bytes(*length)) {
            Err(_) => row.push(None),
            Ok(length) => {
                let (field, after) = rest.split_at_checked(length)?;
                row.push(Some(field.to_vec()));
                rest = after;
            }
        }
    }
    Some(row)
}

/// The body of a DataRow with these fields.
#[cfg(test)]
pub fn encoded(fields: &[Option<&str>]) -> Vec<u8> {
    let mut body = (fields.len() as u16).to_be_bytes().to_vec();
    for field in fields {
        let length = field.map_or(-1, |text| text.len() as i32);
        body.extend(length.to_be_bytes());
        body.extend(field.unwrap_or_default().bytes());
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_or_none() {
        let body = b"\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0";
        let row = vec![Some(b"ab".to_vec()), None, Some(Vec::new())];
        assert_eq!(data_row(body), Some(row));
        assert_eq!(encoded(&[Some("ab"), None, Some("")]), body);
        for cut in 0..body.len() {
            assert_eq!(data_row(&body[..cut]), None, "{cut}");
        }
    }
}
