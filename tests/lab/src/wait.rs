//! Waiting for what is seen, never for time to pass.

use std::time::{Duration, Instant};

use crate::Error;

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Asks `holds` until it says yes. The pause between two questions grows from 5 to 100 ms.
///
/// # Errors
/// [`Error::Deadline`] when it said no until `limit` was over, and at once what `holds` itself returns as an error.
pub fn until(
    what: &str,
    limit: Duration,
    mut holds: impl FnMut() -> Result<bool, Error>,
) -> Result<(), Error> {
    let deadline = Instant::now() + limit;
    let mut pause = FIRST_PAUSE;
    loop {
        if holds()? {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::Deadline {
                what: what.to_owned(),
                limit,
            });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_returns_when_the_predicate_holds_and_fails_when_it_never_does() {
        let mut asked = 0;
        until("three", Duration::from_secs(5), || {
            asked += 1;
            Ok(asked == 3)
        })
        .unwrap();
        assert_eq!(asked, 3);
        let late = until("never", Duration::from_millis(1), || Ok(false));
        assert!(matches!(late, Err(Error::Deadline { .. })));
    }
}
