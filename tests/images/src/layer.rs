//! A layer: a tar archive in which nothing depends on the machine or the hour it was written.

use tar::{Builder, EntryType, Header};

use crate::{Blob, Error};

/// Collects entries in the order given. Owner is root and the time is the epoch for every entry.
pub struct Layer {
    tar: Builder<Vec<u8>>,
}

impl Default for Layer {
    fn default() -> Self {
        Self::new()
    }
}

impl Layer {
    /// An empty layer.
    pub fn new() -> Self {
        Self {
            tar: Builder::new(Vec::new()),
        }
    }

    /// Adds a regular file; `path` is relative to the root, as in `etc/passwd`.
    ///
    /// # Errors
    /// [`Error::Pack`] when tar cannot hold the path.
    pub fn file(self, path: &str, mode: u32, content: &[u8]) -> Result<Self, Error> {
        self.entry(path, EntryType::Regular, mode, content)
    }

    /// Adds a directory.
    ///
    /// # Errors
    /// As [`Layer::file`].
    pub fn directory(self, path: &str, mode: u32) -> Result<Self, Error> {
        self.entry(path, EntryType::Directory, mode, &[])
    }

    /// Adds a symbolic link that says `target`.
    ///
    /// # Errors
    /// As [`Layer::file`].
    pub fn symlink(mut self, path: &str, target: &str) -> Result<Self, Error> {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        self.tar
            .append_link(&mut header, path, target)
            .map_err(|source| packing(path, source))?;
        Ok(self)
    }

    /// The finished archive. It is not compressed, so the digest of the blob is the layer's `diff_id` too.
    ///
    /// # Errors
    /// As [`Layer::file`].
    pub fn finish(self) -> Result<Blob, Error> {
        self.tar
            .into_inner()
            .map(Blob::new)
            .map_err(|source| packing("the end mark", source))
    }

    fn entry(mut self, path: &str, kind: EntryType, mode: u32, content: &[u8]) -> Result<Self, Error> {
        let size = u64::try_from(content.len()).expect("a length in memory fits 64 bits");
        let mut header = header(kind, mode, size);
        self.tar
            .append_data(&mut header, path, content)
            .map_err(|source| packing(path, source))?;
        Ok(self)
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn packing(entry: &str, source: std::io::Error) -> Error {
    Error::Pack {
        entry: entry.to_owned(),
        source,
    }
}
