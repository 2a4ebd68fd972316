//! How much goes on for each user.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places for streams: so many in sum, so many for one user.
pub(crate) struct UserPlaces {
    all: usize,
    per_user: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_user: BTreeMap<String, usize>,
}

/// One stream's place; dropping it frees it.
pub(crate) struct UserPlace {
    user: String,
    taken: Arc<Mutex<Taken>>,
}

/// As many streams go on as may.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPlace {
    #[error("{0} streams go on at this node's kubelet, as many as may: try again later")]
    All(usize),
    #[error("{limit} streams of user {user:?} go on, as many as one may have")]
    User { user: String, limit: usize },
}

impl UserPlaces {
    pub(super) fn new(all: usize, per_user: usize) -> Self {
        Self {
            all,
            per_user,
            taken: Arc::default(),
        }
    }

    pub(crate) fn take(&self, user: &str) -> Result<UserPlace, NoPlace> {
        let mut taken = locked(&self.taken);
        if taken.all >= self.all {
            return Err(NoPlace::All(self.all));
        }
        if taken.by_user.get(user).copied().unwrap_or_default() >= self.per_user {
            return Err(NoPlace::User {
                user: user.to_owned(),
                limit: self.per_user,
            });
        }
        taken.all += 1;
        *taken.by_user.entry(user.to_owned()).or_default() += 1;
        Ok(UserPlace {
            user: user.to_owned(),
            taken: Arc::clone(&self.taken),
        })
    }
}

impl Drop for UserPlace {
    fn drop(&mut self) {
        let mut taken = locked(&self.taken);
        taken.all -= 1;
        if let Some(count) = taken.by_user.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                taken.by_user.remove(&self.user);
            }
        }
    }
}

fn locked(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_does_not_take_all_places_and_a_place_comes_back() {
        let places = UserPlaces::new(3, 2);
        let first = places.take("ann").unwrap();
        let _second = places.take("ann").unwrap();
        let full = places.take("ann").map(drop).unwrap_err();
        assert!(matches!(full, NoPlace::User { limit: 2, .. }));
        let _third = places.take("bob").unwrap();
        assert_eq!(places.take("bob").map(drop), Err(NoPlace::All(3)));
        drop(first);
        places.take("bob").unwrap();
        assert_eq!(locked(&places.taken).by_user.len(), 2);
    }
}
