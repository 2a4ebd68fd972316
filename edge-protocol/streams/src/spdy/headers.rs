//! The headers of a stream, and the block that carries them before compression (SPDY/3, 2.6.10).

use std::collections::BTreeMap;

/// Names and values of one stream, at most [`Headers::MAX_COUNT`] of them and [`Headers::MAX_BLOCK`] bytes as a block. Names are lower
/// case; several values of one name are joined by NUL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(BTreeMap<String, String>);

/// Why some headers, or the bytes that should be a block of them, are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadersError {
    #[error("more than {} headers", Headers::MAX_COUNT)]
    TooMany,
    #[error("headers of more than {} bytes", Headers::MAX_BLOCK)]
    TooLarge,
    #[error("a name that is empty, not lower case or not text")]
    Name,
    #[error("a name that came twice")]
    Duplicate,
    #[error("a block that ends before its headers")]
    Truncated,
    #[error("{0} bytes after the last header")]
    Trailing(usize),
}

impl Headers {
    pub const MAX_COUNT: usize = 100;
    /// Bytes, uncompressed, lengths included.
    pub const MAX_BLOCK: usize = 64 * 1024;

    /// Names are lower-cased; values are taken as they are.
    ///
    /// # Errors
    /// [`HeadersError`]: too many, too large, or a name empty or given twice.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, HeadersError> {
        let mut headers = Self::default();
        for (name, value) in pairs {
            headers.insert(name.to_lowercase(), value.to_owned())?;
        }
        headers.check()?;
        Ok(headers)
    }

    /// The first value of `name`, which is given in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(|values| values.split('\0').next())
    }

    fn insert(&mut self, name: String, value: String) -> Result<(), HeadersError> {
        if name.is_empty() || name != name.to_lowercase() {
            return Err(HeadersError::Name);
        }
        match self.0.insert(name, value) {
            None => Ok(()),
            Some(_) => Err(HeadersError::Duplicate),
        }
    }

    fn check(&self) -> Result<(), HeadersError> {
        let length = 4 + self
            .0
            .iter()
            .map(|(name, value)| 8 + name.len() + value.len())
            .sum::<usize>();
        if self.0.len() > Self::MAX_COUNT {
            Err(HeadersError::TooMany)
        } else if length > Self::MAX_BLOCK {
            Err(HeadersError::TooLarge)
        } else {
            Ok(())
        }
    }

    /// The block, before compression.
    pub(super) fn to_block(&self) -> Vec<u8> {
        let mut block = Vec::new();
        put_u32(&mut block, self.0.len());
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            put_u32(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
        block
    }

    /// Reads a block that has been inflated. A value that is no UTF-8 has its damaged parts replaced.
    ///
    /// # Errors
    /// Every [`HeadersError`].
    pub(super) fn from_block(mut block: &[u8]) -> Result<Self, HeadersError> {
        if block.len() > Self::MAX_BLOCK {
            return Err(HeadersError::TooLarge);
        }
        let count = take_u32(&mut block)?;
        if count > Self::MAX_COUNT {
            return Err(HeadersError::TooMany);
        }
        let mut headers = Self::default();
        for _ in 0..count {
            let name = str::from_utf8(take_text(&mut block)?).map_err(|_| HeadersError::Name)?;
            let value = String::from_utf8_lossy(take_text(&mut block)?);
            headers.insert(name.to_owned(), value.into_owned())?;
        }
        if block.is_empty() {
            Ok(headers)
        } else {
            Err(HeadersError::Trailing(block.len()))
        }
    }
}

fn put_u32(block: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("headers are bounded by MAX_BLOCK");
    block.extend_from_slice(&length.to_be_bytes());
}

fn take_u32(block: &mut &[u8]) -> Result<usize, HeadersError> {
    let (head, rest) = block.split_first_chunk().ok_or(HeadersError::Truncated)?;
    *block = rest;
    usize::try_from(u32::from_be_bytes(*head)).map_err(|_| HeadersError::TooLarge)
}

fn take_text<'a>(block: &mut &'a [u8]) -> Result<&'a [u8], HeadersError> {
    let length = take_u32(block)?;
    let (text, rest) = block.split_at_checked(length).ok_or(HeadersError::Truncated)?;
    *block = rest;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(block: &[u8], expected: Result<&[(&str, &str)], HeadersError>) {
        let expected = expected.map(|pairs| Headers::new(pairs.iter().copied()).unwrap());
        assert_eq!(Headers::from_block(block), expected, "{block:?}");
    }

    #[test]
    fn blocks_are_read_or_refused() {
        check(b"\0\0\0\0", Ok(&[]));
        check(b"\0\0\0\x01\0\0\0\x01a\0\0\0\x02bc", Ok(&[("a", "bc")]));
        check(b"\0\0\0\x01\0\0\0\x01a\0\0\0\x03b\0c", Ok(&[("a", "b\0c")]));
        check(b"", Err(HeadersError::Truncated));
        check(b"\0\0\0\x01", Err(HeadersError::Truncated));
        check(b"\0\0\0\x01\0\0\0\x02a", Err(HeadersError::Truncated));
        check(b"\0\0\0\x01\xff\xff\xff\xffa", Err(HeadersError::Truncated));
        check(b"\0\0\0\0!", Err(HeadersError::Trailing(1)));
        check(b"\0\0\0\x01\0\0\0\0\0\0\0\0", Err(HeadersError::Name));
        check(b"\0\0\0\x01\0\0\0\x01A\0\0\0\0", Err(HeadersError::Name));
        check(b"\0\0\0\x01\0\0\0\x01\xff\0\0\0\0", Err(HeadersError::Name));
        check(b"\0\0\0\x65", Err(HeadersError::TooMany));
        check(b"\xff\xff\xff\xff", Err(HeadersError::TooMany));
        let twice = b"\0\0\0\x02\0\0\0\x01a\0\0\0\0\0\0\0\x01a\0\0\0\0";
        check(twice, Err(HeadersError::Duplicate));
        check(&vec![0; Headers::MAX_BLOCK + 1], Err(HeadersError::TooLarge));
    }

    #[test]
    fn headers_are_bounded_when_made() {
        assert_eq!(
            Headers::new([("A", "1"), ("a", "2")]),
            Err(HeadersError::Duplicate)
        );
        assert_eq!(Headers::new([("", "1")]), Err(HeadersError::Name));
        let long = "x".repeat(Headers::MAX_BLOCK - 13);
        assert!(Headers::new([("a", long.as_str())]).is_ok());
        assert_eq!(Headers::new([("ab", long.as_str())]), Err(HeadersError::TooLarge));
        let names: Vec<String> = (0..=Headers::MAX_COUNT).map(|n| n.to_string()).collect();
        let pairs = || names.iter().map(|name| (name.as_str(), ""));
        assert!(Headers::new(pairs().skip(1)).is_ok());
        assert_eq!(Headers::new(pairs()), Err(HeadersError::TooMany));
    }

    #[test]
    fn the_first_of_several_values_is_the_value() {
        let headers = Headers::new([("streamType", "data\0error")]).unwrap();
        assert_eq!(headers.get("streamtype"), Some("data"));
        assert_eq!(headers.get("port"), None);
    }
}
