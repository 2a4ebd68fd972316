//! The bounded set of handshakes under way, oldest first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

pub(super) struct Handshakes {
    shared: Arc<Shared>,
    max: usize,
    grace: Duration,
}

struct Shared {
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Default)]
struct State {
    /// In order of arrival: ids rise.
    places: BTreeMap<u64, (Instant, CancellationToken)>,
    last: u64,
}

/// A place in the set, freed when dropped.
pub(super) struct Place {
    shared: Arc<Shared>,
    id: u64,
    evicted: CancellationToken,
}

impl Handshakes {
    pub(super) fn new(max: usize, grace: Duration) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State::default()),
            freed: Notify::new(),
        });
        Self {
            shared,
            max: max.max(1),
            grace,
        }
    }

    /// A place, at the latest when the oldest has had its grace. Cancel-safe; for one caller at a time.
    pub(super) async fn place(&self) -> Place {
        loop {
            let oldest = match self.try_place() {
                Ok(place) => return place,
                Err(oldest) => oldest,
            };
            tokio::select! {
                () = self.shared.freed.notified() => {}
                () = sleep_until(oldest + self.grace) => {}
            }
        }
    }

    /// A place, or when the oldest of a full set arrived.
    fn try_place(&self) -> Result<Place, Instant> {
        let mut state = self.shared.lock();
        let now = Instant::now();
        if state.places.len() >= self.max
            && let Some(oldest) = state.places.first_entry()
        {
            let since = oldest.get().0;
            if now < since + self.grace {
                return Err(since);
            }
            let (_, (_, evicted)) = oldest.remove_entry();
            evicted.cancel();
        }
        state.last += 1;
        let id = state.last;
        let evicted = CancellationToken::new();
        state.places.insert(id, (now, evicted.clone()));
        Ok(Place {
            shared: Arc::clone(&self.shared),
            id,
            evicted,
        })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

impl Place {
    /// Resolves when this handshake is to give way.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.lock().places.remove(&self.id);
        self.shared.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_full_set_waits_for_a_free_place_or_evicts_the_oldest_after_its_grace() {
        let handshakes = Handshakes::new(2, GRACE);
        let begin = Instant::now();
        let first = handshakes.place().await;
        let second = handshakes.place().await;
        assert!(handshakes.try_place().is_err());
        let third = handshakes.place().await;
        assert!(begin.elapsed() >= GRACE);
        assert!(first.evicted.is_cancelled() && !second.evicted.is_cancelled());
        drop(first);
        assert_eq!(
            handshakes.shared.lock().places.len(),
            2,
            "an evicted place is not freed twice"
        );
        drop(third);
        assert!(handshakes.try_place().is_ok(), "a free place is taken at once");
    }
}
