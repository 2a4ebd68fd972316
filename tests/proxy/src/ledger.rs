//! Which lies are told, how often each was served, and which watches are open.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::header::ACCEPT;
use hyper::{Method, Request};
use tokio_util::sync::CancellationToken;

use crate::rule::{self, Lie, Requests, Rule, Told};

/// A test tells a few; the cap is against one that runs wild.
const MAX_LIES: usize = 1000;

/// What of a request decides whether a rule is about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub method: Method,
    pub path: String,
    pub is_watch: bool,
}

impl Asked {
    pub fn of<B>(request: &Request<B>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let by_query = query
            .split('&')
            .any(|pair| matches!(pair, "watch=true" | "watch=1"));
        let accept = request.headers().get(ACCEPT);
        let by_header = accept.is_some_and(|accept| accept.as_bytes().starts_with(b"text/event-stream"));
        Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            is_watch: by_query || by_header,
        }
    }
}

/// Shared by all connections and the control endpoint. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    requests: u64,
    lies: Vec<Entry>,
    watches: BTreeMap<u64, Watch>,
    next_watch: u64,
}

#[derive(Debug)]
struct Entry {
    rule: Rule,
    /// Promised to a request, served or not yet.
    claimed: u64,
    served: u64,
    withdrawn: bool,
}

#[derive(Debug)]
struct Watch {
    asked: Asked,
    cut: CancellationToken,
}

/// What a request meets.
#[derive(Debug)]
pub(crate) struct Admission {
    pub claim: Option<Claim>,
    /// Of a watch: its place among the open ones.
    pub place: Option<Place>,
}

impl Ledger {
    /// Enters a request. The lie and the place are given in one go, so that a watch is either cut by a rule or admitted under it.
    pub fn admit(&self, asked: &Asked) -> Admission {
        let mut book = self.book();
        book.requests += 1;
        let claim = book.claim(asked).map(|(id, lie)| Claim {
            ledger: self.clone(),
            id,
            lie,
            kept: false,
        });
        let place = asked.is_watch.then(|| book.open(asked)).map(|(id, cut)| Place {
            ledger: self.clone(),
            id,
            cut,
        });
        Admission { claim, place }
    }

    /// Tells a lie. One of [`Lie::Cut`] is served to the open watches before this returns.
    pub fn tell(&self, rule: Rule) -> Result<Told, &'static str> {
        if let Some(problem) = rule.problem() {
            return Err(problem);
        }
        let mut book = self.book();
        if book.lies.len() >= MAX_LIES {
            return Err("at most 1000 lies are told by one proxy");
        }
        let cuts = if matches!(rule.lie, Lie::Cut { .. }) {
            let limit = rule.count.unwrap_or(u64::MAX);
            book.cut(limit, |watch| is_about(&rule, &watch.asked))
        } else {
            0
        };
        book.lies.push(Entry {
            rule,
            claimed: cuts,
            served: cuts,
            withdrawn: false,
        });
        let told = book.told().last().expect("one was just pushed");
        tracing::info!(id = told.id, rule = ?told.rule, served = told.served, "a lie is told");
        Ok(told)
    }

    /// From now on everything passes. Counters stay.
    pub fn withdraw(&self) {
        self.book()
            .lies
            .iter_mut()
            .for_each(|entry| entry.withdrawn = true);
        tracing::info!("all lies are withdrawn");
    }

    pub fn interrupt(&self, prefix: &str) -> u64 {
        self.book()
            .cut(u64::MAX, |watch| watch.asked.path.starts_with(prefix))
    }

    pub fn read(&self) -> rule::Ledger {
        let book = self.book();
        rule::Ledger {
            requests: book.requests,
            watches: book.watches.len() as u64,
            lies: book.told().collect(),
        }
    }

    /// Every change of the book is complete when its lock goes, whatever panicked elsewhere.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn claim(&mut self, asked: &Asked) -> Option<(usize, Lie)> {
        let open =
            |entry: &Entry| !entry.withdrawn && entry.rule.count.is_none_or(|count| entry.claimed < count);
        let id = self
            .lies
            .iter()
            .rposition(|entry| open(entry) && is_about(&entry.rule, asked))?;
        let entry = self.lies.get_mut(id)?;
        entry.claimed += 1;
        Some((id, entry.rule.lie.clone()))
    }

    fn open(&mut self, asked: &Asked) -> (u64, CancellationToken) {
        let (id, cut) = (self.next_watch, CancellationToken::new());
        self.next_watch += 1;
        self.watches.insert(
            id,
            Watch {
                asked: asked.clone(),
                cut: cut.clone(),
            },
        );
        (id, cut)
    }

    fn cut(&mut self, limit: u64, is_meant: impl Fn(&Watch) -> bool) -> u64 {
        let mut cuts = 0;
        for watch in self
            .watches
            .values()
            .filter(|watch| is_meant(watch) && !watch.cut.is_cancelled())
        {
            if cuts == limit {
                break;
            }
            watch.cut.cancel();
            cuts += 1;
        }
        cuts
    }

    fn told(&self) -> impl Iterator<Item = Told> + '_ {
        (0..).zip(&self.lies).map(|(id, entry)| entry.told(id))
    }
}

impl Entry {
    fn told(&self, id: u64) -> Told {
        Told {
            id,
            rule: self.rule.clone(),
            served: self.served,
            withdrawn: self.withdrawn,
        }
    }
}

fn is_about(rule: &Rule, asked: &Asked) -> bool {
    let by_kind = match (&rule.lie, rule.requests) {
        // These lies have no meaning for the other kind, and must not hide an older rule from it.
        (Lie::Cut { .. } | Lie::NoBookmark { .. }, Requests::Any) | (_, Requests::Watches) => asked.is_watch,
        (Lie::EmptyList { .. }, Requests::Any) | (_, Requests::Plain) => !asked.is_watch,
        (_, Requests::Any) => true,
    };
    let by_method = rule
        .method
        .as_ref()
        .is_none_or(|method| method.eq_ignore_ascii_case(asked.method.as_str()));
    by_kind && by_method && asked.path.starts_with(&rule.prefix)
}

/// A lie promised to one request. Dropped without [`served`](Self::served), it is given back.
#[derive(Debug)]
pub(crate) struct Claim {
    ledger: Ledger,
    id: usize,
    pub lie: Lie,
    kept: bool,
}

impl Claim {
    /// The client has the lie.
    pub fn served(mut self) {
        self.kept = true;
        let mut book = self.ledger.book();
        let Some(entry) = book.lies.get_mut(self.id) else {
            return;
        };
        entry.served += 1;
        tracing::info!(id = self.id, lie = ?self.lie, served = entry.served, "a lie was served");
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Some(entry) = self.ledger.book().lies.get_mut(self.id) {
            entry.claimed -= 1;
        }
    }
}

/// An open watch's entry in the ledger; dropping it ends the entry.
#[derive(Debug)]
pub(crate) struct Place {
    ledger: Ledger,
    id: u64,
    cut: CancellationToken,
}

impl Place {
    /// Returns when the watch is to be cut. Dropping the future loses nothing.
    pub async fn cut(&self) {
        self.cut.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.ledger.book().watches.remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
