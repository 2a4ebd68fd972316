//! Whether a secret is somewhere it should not be, whatever has been made of it on the way.
//!
//! * [`Marker`]: a text that is nowhere by chance, and the name by which a finding tells of it.
//! * [`Search`]: all markers in all [`Form`]s at once, in bytes, in what bytes have compressed in them, in a tree of files, in the cells of a database.
//! * `forms`: what programs make of a text: escapes, encodings, lists of numbers. `packed`: zstd frames, wherever they begin.
//!
//! A search that finds nothing proves nothing by itself: whoever uses this also looks for something that must be there, in the same place.
//! What cannot be read is therefore an error and never nothing.

mod database;
mod forms;
mod packed;
mod tree;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;

use aho_corasick::AhoCorasick;

pub use forms::Form;

/// Compressed within compressed, and no deeper.
const DEPTH: usize = 3;

/// A text to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    pub name: String,
    /// At least [`Marker::SHORTEST`] bytes, or chance would find it.
    pub text: String,
}

impl Marker {
    pub const SHORTEST: usize = 12;

    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
        }
    }
}

/// One marker in one form at one place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub marker: String,
    pub form: Form,
    /// It was within something compressed.
    pub packed: bool,
    /// A path, with table and column if it was a database's cell.
    pub place: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let packed = if self.packed { ", compressed" } else { "" };
        write!(f, "{} as {}{packed} in {}", self.marker, self.form, self.place)
    }
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    #[error("the marker {0:?} is too short to be found by its own merit")]
    TooShort(String),
    #[error("the markers make no automaton: {0}")]
    Automaton(String),
    #[error("{path} cannot be searched", path = path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the database {path} cannot be searched", path = path.display())]
    Database {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
}

/// All markers in all forms.
#[derive(Debug)]
pub struct Search {
    automaton: AhoCorasick,
    /// Of each pattern: which marker, in which form.
    patterns: Vec<(String, Form)>,
}

impl Search {
    /// # Errors
    /// [`SearchError::TooShort`]
    pub fn new(markers: &[Marker]) -> Result<Self, SearchError> {
        let mut patterns = Vec::new();
        let mut texts = Vec::new();
        for marker in markers {
            if marker.text.len() < Marker::SHORTEST {
                return Err(SearchError::TooShort(marker.name.clone()));
            }
            for (form, text) in forms::all(&marker.text) {
                patterns.push((marker.name.clone(), form));
                texts.push(text);
            }
        }
        let automaton = AhoCorasick::new(texts).map_err(|error| SearchError::Automaton(error.to_string()))?;
        Ok(Self { automaton, patterns })
    }

    /// What is in these bytes, and in what is compressed among them; each marker and form once.
    pub fn bytes(&self, place: &str, bytes: &[u8]) -> BTreeSet<Finding> {
        let mut found = BTreeSet::new();
        self.look(place, bytes, 0, &mut found);
        found
    }

    fn look(&self, place: &str, bytes: &[u8], depth: usize, found: &mut BTreeSet<Finding>) {
        for hit in self.automaton.find_overlapping_iter(bytes) {
            if let Some((marker, form)) = self.patterns.get(hit.pattern().as_usize()) {
                found.insert(Finding {
                    marker: marker.clone(),
                    form: *form,
                    packed: depth > 0,
                    place: place.to_owned(),
                });
            }
        }
        if depth < DEPTH {
            for unpacked in packed::frames(bytes) {
                self.look(place, &unpacked, depth + 1, found);
            }
        }
    }
}
