//! Places for connections: so many in all, and so many of one key, so that one peer cannot take the places of the others.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

pub(super) struct Quota<K: Eq + Hash> {
    total: usize,
    each: usize,
    /// Only keys that hold a place, so it is no larger than `total`.
    held: Mutex<Held<K>>,
}

struct Held<K> {
    all: usize,
    by_key: HashMap<K, usize>,
}

/// A place, free again when dropped.
pub(super) struct Place<K: Eq + Hash> {
    quota: Arc<Quota<K>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Quota<K> {
    pub(super) fn new(total: usize, each: usize) -> Arc<Self> {
        let held = Mutex::new(Held {
            all: 0,
            by_key: HashMap::new(),
        });
        Arc::new(Self { total, each, held })
    }

    /// A place, unless all are taken or the key has its share. Never waits.
    pub(super) fn take(self: &Arc<Self>, key: K) -> Option<Place<K>> {
        let mut held = self.held.lock().expect("nothing panics under this lock");
        if held.all >= self.total || held.by_key.get(&key).is_some_and(|count| *count >= self.each) {
            return None;
        }
        held.all += 1;
        *held.by_key.entry(key.clone()).or_insert(0) += 1;
        Some(Place {
            quota: Arc::clone(self),
            key,
        })
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut held = self.quota.held.lock().expect("nothing panics under this lock");
        held.all -= 1;
        if let Some(count) = held.by_key.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                held.by_key.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_one_key_nor_all_together_take_more_than_their_share() {
        let quota = Quota::new(3, 2);
        let first = quota.take("a").unwrap();
        let _second = quota.take("a").unwrap();
        assert!(quota.take("a").is_none(), "the key's share");
        let _third = quota.take("b").unwrap();
        assert!(quota.take("c").is_none(), "all together");
        drop(first);
        drop(quota.take("c").unwrap());
        assert!(quota.take("a").is_some());
        assert_eq!(
            quota.held.lock().unwrap().by_key.len(),
            2,
            "who left is forgotten"
        );
    }
}
