//! Answers that are good for a while, of which only so many are kept.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Values that each expire. At most `capacity` are held: the one that would expire first gives way.
pub(crate) struct Cache<K, V> {
    capacity: usize,
    entries: BTreeMap<K, (Instant, V)>,
}

impl<K: Ord + Clone, V: Clone> Cache<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            entries: BTreeMap::new(),
        }
    }

    pub(crate) fn get(&self, key: &K, now: Instant) -> Option<V> {
        let (until, value) = self.entries.get(key)?;
        (now < *until).then(|| value.clone())
    }

    pub(crate) fn put(&mut self, key: K, value: V, good_for: Duration, now: Instant) {
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&key) {
            self.entries.retain(|_, (until, _)| now < *until);
        }
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&key) {
            let first = self.entries.iter().min_by_key(|(_, (until, _))| *until);
            if let Some(first) = first.map(|(key, _)| key.clone()) {
                self.entries.remove(&first);
            }
        }
        self.entries.insert(key, (now + good_for, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_expired_is_not_told_and_the_oldest_gives_way() {
        let now = Instant::now();
        let mut cache = Cache::new(2);
        cache.put("a", 1, SECOND, now);
        assert_eq!(cache.get(&"a", now), Some(1));
        assert_eq!(cache.get(&"a", now + SECOND), None);
        // The second value for a key takes no place of its own.
        cache.put("a", 2, 3 * SECOND, now);
        cache.put("b", 3, 2 * SECOND, now);
        cache.put("c", 4, SECOND, now);
        let held = ["a", "b", "c"].map(|key| cache.get(&key, now));
        assert_eq!(held, [Some(2), None, Some(4)]);
        // Of what is over, all goes before anything that is not.
        cache.put("d", 5, SECOND, now + 2 * SECOND);
        assert_eq!(cache.get(&"a", now + 2 * SECOND), Some(2));
    }
}
