//! Files below a directory, on the file system of that directory only.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::{Finding, Search, SearchError};

impl Search {
    /// What is in the files below a directory, and in their names. Other file systems that are mounted there are left out, and so is what
    /// `skip` names. What vanishes meanwhile had its last word before.
    ///
    /// # Errors
    /// [`SearchError::File`]
    pub fn tree(
        &self,
        directory: &Path,
        skip: &dyn Fn(&Path) -> bool,
    ) -> Result<BTreeSet<Finding>, SearchError> {
        let own = metadata(directory)?.map(|found| found.dev());
        let mut found = BTreeSet::new();
        let mut open = vec![directory.to_owned()];
        while let Some(path) = open.pop() {
            if skip(&path) {
                continue;
            }
            let Some(known) = metadata(&path)? else { continue };
            if Some(known.dev()) != own {
                continue;
            }
            let place = path.display().to_string();
            found.append(&mut self.bytes(&place, place.as_bytes()));
            if known.is_dir() {
                let Some(entries) = unless_gone(&path, fs::read_dir(&path))? else {
                    continue;
                };
                for entry in entries {
                    open.extend(unless_gone(&path, entry)?.map(|entry| entry.path()));
                }
            } else if known.is_file() {
                found.append(&mut self.file(&path)?);
            }
        }
        Ok(found)
    }

    /// What is in one file; nothing is in one that is gone.
    ///
    /// # Errors
    /// [`SearchError::File`]
    pub fn file(&self, path: &Path) -> Result<BTreeSet<Finding>, SearchError> {
        let content = unless_gone(path, fs::read(path))?;
        Ok(self.bytes(&path.display().to_string(), &content.unwrap_or_default()))
    }
}

fn metadata(path: &Path) -> Result<Option<Metadata>, SearchError> {
    unless_gone(path, fs::symlink_metadata(path))
}

fn unless_gone<T>(path: &Path, result: io::Result<T>) -> Result<Option<T>, SearchError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SearchError::File {
            path: path.to_owned(),
            source,
        }),
    }
}
