//! Waiting for what is seen. A look that fails says what it saw instead, and the last of these is what a failed test prints.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Far above any time that something takes, since machines that test are slow and shared.
pub const LIMIT: Duration = Duration::from_secs(90);

const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Looks until it is as it should be, and returns what was found. Panics after [`LIMIT`].
#[track_caller]
pub fn eventually<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    within(LIMIT, what, look)
}

/// As [`eventually`], with a limit that the issue sets.
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    let mut pause = PAUSE;
    loop {
        match look() {
            Ok(found) => {
                eprintln!("{:6.1} s until {what}", begun.elapsed().as_secs_f64());
                return found;
            }
            Err(saw) if begun.elapsed() >= limit => {
                panic!("{what}: not within {} s; last seen: {saw}", limit.as_secs())
            }
            Err(_) => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Looks again and again for this long: it must stay as it is. The time itself is what is tested, as with a link that is away for a minute.
#[track_caller]
pub fn throughout<T: PartialEq + Debug>(
    time: Duration,
    what: &str,
    expected: &T,
    mut look: impl FnMut() -> T,
) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        let seen = look();
        assert_eq!(
            seen,
            *expected,
            "{what}: after {:.1} s",
            begun.elapsed().as_secs_f64()
        );
        std::thread::sleep(LONGEST_PAUSE);
    }
}
