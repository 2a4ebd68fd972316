//! What a pod asks for and does not get: every path at once, sorted, with the reason beside it.

use std::fmt;

/// Longest piece of a pod author's own text that is repeated in a message, in characters.
const QUOTED: usize = 128;

/// One path of a pod that cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// Where it stands, with real indices and map keys: `spec.containers[1].livenessProbe`,
    /// `spec.containers[0].resources.limits[nvidia.com/gpu]`. Control characters of keys are escaped, long keys cut.
    pub path: String,
    /// Why, in a few words for the pod's author.
    pub reason: String,
}

/// All refusals of one pod: never empty, sorted by path (indices by number), one per path.
///
/// `Display` gives the whole list in one line; [`Refusals::summary`] gives what fits into an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusals(Vec<Refusal>);

impl Refusals {
    /// `Err` with all of them sorted, or `Ok` when there are none.
    pub(crate) fn none_or(mut found: Vec<Refusal>) -> Result<(), Self> {
        if found.is_empty() {
            return Ok(());
        }
        found.sort_by_cached_key(|refusal| (sort_key(&refusal.path), refusal.path.clone()));
        found.dedup_by(|a, b| a.path == b.path);
        Err(Self(found))
    }

    /// The refusals in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Refusal> {
        self.0.iter()
    }

    /// The paths alone, in order.
    pub fn paths(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(|refusal| refusal.path.as_str())
    }

    /// As many refusals as fit into `limit` bytes, then `… and N more`; an event's note may have 1024 bytes.
    ///
    /// The text is longer than `limit` only when `limit` has no room for the closing words.
    pub fn summary(&self, limit: usize) -> String {
        let whole = self.to_string();
        if whole.len() <= limit {
            return whole;
        }
        let mut text = String::new();
        for (index, refusal) in self.0.iter().enumerate() {
            let left = format!("… and {} more", self.0.len() - index);
            let next = format!("{refusal}; ");
            if text.len() + next.len() + left.len() > limit {
                text.push_str(&left);
                break;
            }
            text.push_str(&next);
        }
        text
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, refusal) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{refusal}")?;
        }
        Ok(())
    }
}

/// A path under construction; cheap to extend, rendered only when something is refused.
#[derive(Clone, Copy)]
pub(crate) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    pub(crate) fn root(field: &'a str) -> Self {
        Self {
            parent: None,
            step: Step::Field(field),
        }
    }

    pub(crate) fn field(&'a self, name: &'a str) -> Path<'a> {
        Path {
            parent: Some(self),
            step: Step::Field(name),
        }
    }

    pub(crate) fn index(&'a self, index: usize) -> Path<'a> {
        Path {
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    pub(crate) fn key(&'a self, key: &'a str) -> Path<'a> {
        Path {
            parent: Some(self),
            step: Step::Key(key),
        }
    }

    pub(crate) fn refuse(&self, reason: impl Into<String>) -> Refusal {
        Refusal {
            path: self.to_string(),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Field(name) if self.parent.is_none() => f.write_str(&quoted(name)),
            Step::Field(name) => write!(f, ".{}", quoted(name)),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{}]", quoted(key)),
        }
    }
}

/// A pod author's text made fit for a message: control characters escaped, at most [`QUOTED`] characters.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(QUOTED));
    for (index, character) in text.chars().enumerate() {
        if index == QUOTED {
            out.push('…');
            break;
        }
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// Splits a path at its digits, so that `[2]` sorts before `[10]`.
fn sort_key(path: &str) -> Vec<(String, u64)> {
    let mut key = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let text_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, tail) = rest.split_at(text_end);
        let number_end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (digits, tail) = tail.split_at(number_end);
        // A run of digits too long for a number is a key, not an index: any fixed place will do.
        key.push((text.to_owned(), digits.parse().unwrap_or(u64::MAX)));
        rest = tail;
    }
    key
}

#[cfg(test)]
mod tests;
