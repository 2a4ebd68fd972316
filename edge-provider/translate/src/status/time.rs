//! Instants and ages in the form that an API object can carry.

use edge_protocol::DeviceTime;
use k8s_openapi::jiff::Timestamp;

/// The last second of the year 9999, the latest that RFC 3339 can write.
const LATEST_S: i64 = 253_402_300_799;

/// An instant a device stated, in milliseconds since the Unix epoch, as whole seconds.
///
/// A wrong clock may state anything (law 11); what an API object cannot carry becomes the nearest instant that it can.
pub(super) fn of_millis(millis: i64) -> Timestamp {
    let seconds = millis
        .div_euclid(1000)
        .clamp(0, LATEST_S.min(Timestamp::MAX.as_second()));
    Timestamp::from_second(seconds).expect("the range was cut to what a timestamp holds")
}

/// A moment of a device, where its clock can be trusted.
pub(super) fn of_device(at: DeviceTime) -> Option<Timestamp> {
    at.wall_trusted.then(|| of_millis(at.wall_ms))
}

/// The API server stores no fractions, so that a finer value would differ from what is read back.
pub(super) fn whole_seconds(instant: Timestamp) -> Timestamp {
    of_millis(instant.as_millisecond())
}

/// Ages worth telling apart, in seconds. Few of them, so that a silent hub causes few patches.
const AGES: [(i64, &str); 11] = [
    (5 * 60, "5 minutes"),
    (15 * 60, "15 minutes"),
    (30 * 60, "30 minutes"),
    (3600, "1 hour"),
    (2 * 3600, "2 hours"),
    (4 * 3600, "4 hours"),
    (8 * 3600, "8 hours"),
    (24 * 3600, "1 day"),
    (2 * 24 * 3600, "2 days"),
    (7 * 24 * 3600, "7 days"),
    (30 * 24 * 3600, "30 days"),
];

/// How old a word from `as_of_ms` is at least, once that is worth saying.
pub(super) fn age(now: Timestamp, as_of_ms: i64) -> Option<&'static str> {
    let seconds = now.as_millisecond().saturating_sub(as_of_ms) / 1000;
    AGES.iter()
        .rev()
        .find(|(least, _)| seconds >= *least)
        .map(|(_, words)| *words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_clock_gives_an_instant() {
        for (millis, expect) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1970-01-01T00:00:00Z"),
            (1_999, "1970-01-01T00:00:01Z"),
            (1_795_254_000_123, "2026-11-21T09:40:00Z"),
        ] {
            assert_eq!(of_millis(millis).to_string(), expect);
        }
        assert_eq!(of_millis(i64::MIN), of_millis(0));
        assert!(of_millis(i64::MAX).to_string().starts_with("9999-12-3"));
    }

    #[test]
    fn ages_are_coarse_and_young_words_have_none() {
        let now = of_millis(1_795_254_000_000);
        let check =
            |ago_s: i64, expect| assert_eq!(age(now, now.as_millisecond() - ago_s * 1000), expect, "{ago_s}");
        check(-5, None);
        check(299, None);
        check(300, Some("5 minutes"));
        check(3599, Some("30 minutes"));
        check(90_000, Some("1 day"));
        check(400 * 86_400, Some("30 days"));
        assert_eq!(age(now, i64::MIN), Some("30 days"));
        assert_eq!(age(now, i64::MAX), None);
    }
}
