//! What becomes of an event before it is written: `EventCorrelator` of client-go/tools/record/events_cache.go (v0.37), with its numbers.
//!
//! Its clock is the event's own time, so that what a device tells after an outage is gathered as it would have been at the time.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher as _};

use jiff::{SignedDuration, Timestamp};

use super::{About, Counted, EventText, EventWrite, MESSAGE, WORD, cut, level, name_of, write};

/// From so many messages of one object and reason on, the further ones are one event.
const SIMILAR: usize = 10;
/// A pause of this length among them begins anew.
const SIMILAR_FOR: SignedDuration = SignedDuration::from_mins(10);
/// So many events of one object and level are told at once, and one more each time that this has passed.
const BURST: i32 = 25;
const REFILL: SignedDuration = SignedDuration::from_mins(5);
/// No device gains allowance by a time that is longer ago.
const OLDEST: SignedDuration = SignedDuration::from_hours(24);

/// What was told of the objects of one node.
#[derive(Debug)]
pub struct Correlator {
    node: String,
    /// By object with who tells of it, level and reason.
    similar: Recent<Vec<u64>, Similar>,
    /// By object with the part of it, level, reason and message; gathered ones without part and message.
    told: Recent<Vec<u64>, Told>,
    /// By object with who tells of it, and level.
    allowances: Recent<Vec<u64>, Allowance>,
}

#[derive(Debug)]
struct Similar {
    messages: BTreeSet<u64>,
    last: Timestamp,
}

#[derive(Debug)]
struct Told {
    name: String,
    count: u32,
    first: Timestamp,
    last: Timestamp,
}

/// A token bucket whose content is time.
#[derive(Debug)]
struct Allowance {
    left: SignedDuration,
    at: Timestamp,
}

impl Correlator {
    /// Of the node of this name, which is the one that tells. `kept` is the most of each kind of memory; what was used longest ago is
    /// forgotten first.
    pub fn new(node: impl Into<String>, kept: usize) -> Self {
        Self {
            node: node.into(),
            similar: Recent::new(kept),
            told: Recent::new(kept),
            allowances: Recent::new(kept),
        }
    }

    /// The write that tells it, or `None` if too much is told of the object. Nothing has happened later than now, whatever a device says.
    pub fn tell(&mut self, about: &About, text: EventText, now: Timestamp) -> Option<EventWrite> {
        let mut text = EventText {
            reason: cut(text.reason, WORD),
            message: cut(text.message, MESSAGE),
            ..text
        };
        let at = text.at.map_or(now, |at| at.min(now));
        let clock = at.max(now.saturating_sub(OLDEST).unwrap_or(now));
        let object = [
            key(about.kind),
            key(&about.namespace),
            key(&about.name),
            key(&about.uid),
            key(&text.teller),
        ];
        let source = [&object[..], &[key(level(&text))]].concat();
        let reason = [&source[..], &[key(&text.reason)]].concat();
        let message = key(&text.message);
        let kind = if self.are_many(&reason, message, (clock, now)) {
            text.message = cut(
                format!("(combined from similar events): {}", text.message),
                MESSAGE,
            );
            reason
        } else {
            [&reason[..], &[message, key(&text.field_path)]].concat()
        };
        let counted = self.count(kind, about, text.at.unwrap_or(now), at);
        // Counted all the same: the next that is told says how often it was.
        self.is_allowed(source, (clock, now))
            .then(|| write(&self.node, about, &text, &counted))
    }

    /// `EventAggregate`: whether there were many messages of this reason lately.
    fn are_many(&mut self, reason: &[u64], message: u64, (clock, now): (Timestamp, Timestamp)) -> bool {
        let fresh = || Similar {
            messages: BTreeSet::new(),
            last: clock,
        };
        let similar = self.similar.entry(reason.to_vec(), fresh);
        // A clock that was ahead and is right again shall not hold up anything.
        similar.last = similar.last.min(now);
        if clock.duration_since(similar.last) > SIMILAR_FOR {
            similar.messages.clear();
        }
        similar.last = similar.last.max(clock);
        similar.messages.insert(message);
        let many = similar.messages.len() >= SIMILAR;
        if many {
            similar.messages.pop_first();
        }
        many
    }

    /// `eventObserve`: the how manieth it is. The first of them gives the name.
    fn count(&mut self, kind: Vec<u64>, about: &About, named: Timestamp, at: Timestamp) -> Counted {
        let told = self.told.entry(kind, || Told {
            name: name_of(about, named),
            count: 0,
            first: at,
            last: at,
        });
        told.count = told.count.saturating_add(1);
        told.last = told.last.max(at);
        Counted {
            name: told.name.clone(),
            count: told.count,
            first: told.first,
            last: told.last,
        }
    }

    /// `EventSourceObjectSpamFilter`.
    fn is_allowed(&mut self, source: Vec<u64>, (clock, now): (Timestamp, Timestamp)) -> bool {
        let full = REFILL * BURST;
        let allowance = self.allowances.entry(source, || Allowance {
            left: full,
            at: clock,
        });
        allowance.at = allowance.at.min(now);
        let passed = clock.duration_since(allowance.at).max(SignedDuration::ZERO);
        allowance.left = allowance.left.saturating_add(passed).min(full);
        allowance.at = allowance.at.max(clock);
        let allowed = allowance.left >= REFILL;
        if allowed {
            allowance.left = allowance.left.saturating_sub(REFILL);
        }
        allowed
    }
}

/// Texts of devices are kept as this, whatever their length. The keys of the hash are fixed: one seed replays one run.
fn key(text: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// A bounded number of values, less those that were used longest ago.
#[derive(Debug)]
struct Recent<K, V> {
    kept: usize,
    /// With the number of its last use.
    values: BTreeMap<K, (u64, V)>,
    /// By that number.
    by_use: BTreeMap<u64, K>,
    uses: u64,
}

impl<K: Ord + Clone, V> Recent<K, V> {
    fn new(kept: usize) -> Self {
        Self {
            kept,
            values: BTreeMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
        }
    }

    fn entry(&mut self, key: K, fresh: impl FnOnce() -> V) -> &mut V {
        self.uses += 1;
        if let Some((used, _)) = self.values.get(&key) {
            self.by_use.remove(used);
        } else if self.values.len() >= self.kept
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.values.remove(&oldest);
        }
        self.by_use.insert(self.uses, key.clone());
        let (used, value) = self.values.entry(key).or_insert_with(|| (0, fresh()));
        *used = self.uses;
        value
    }
}

#[cfg(test)]
impl Correlator {
    /// The most that one of the memories has.
    pub(super) fn held(&self) -> usize {
        let kinds = [
            self.similar.values.len(),
            self.told.values.len(),
            self.allowances.values.len(),
        ];
        kinds.into_iter().max().unwrap_or_default()
    }
}
