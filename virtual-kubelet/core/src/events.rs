//! Events as the API server keeps them (events.k8s.io/v1): what is told again becomes a series.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// A series goes on for so long (`finishTime` of client-go/tools/events/event_broadcaster.go).
const GOES_ON: SignedDuration = SignedDuration::from_mins(6);
/// Series that are remembered; the oldest is told anew.
const KEPT: usize = 1_024;
/// Limits of `k8s.io/kubernetes/pkg/apis/core/validation/events.go`.
const NOTE: usize = 1024;
const WORD: usize = 128;
/// A name of an object, with a point and sixteen digits after it.
const NAME: usize = 253 - 17;

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventText {
    pub warning: bool,
    /// At most 128 characters.
    pub reason: String,
    /// What was done, at most 128 characters; events of one object that agree in reason and action within six minutes become a series.
    pub action: String,
    /// Cut to 1 KiB.
    pub note: String,
    /// When it happened; `None` is now. What nobody could tell at the time is told later with its own time.
    pub at: Option<Timestamp>,
}

/// One write. What it is about is in the body.
#[derive(Debug, Clone, PartialEq)]
pub enum EventWrite {
    /// POST to this path.
    Create { path: String, body: Value },
    /// JSON merge patch of this path.
    GoOn { path: String, body: Value },
}

/// The series that go on.
#[derive(Debug, Default)]
pub struct Series(BTreeMap<String, One>);

#[derive(Debug)]
struct One {
    path: String,
    count: u32,
    /// When it last happened.
    last: Timestamp,
    /// When that was told.
    told: Timestamp,
}

impl Series {
    /// The write that tells it. `reporter` is the name of the node, `about` an `ObjectReference`. Nothing has happened later than now,
    /// whatever a device says.
    pub fn tell(&mut self, reporter: &str, about: &Value, text: EventText, now: Timestamp) -> EventWrite {
        self.0
            .retain(|_, one| now.duration_since(one.told).abs() < GOES_ON);
        let at = text.at.map_or(now, |at| at.min(now));
        let kind = if text.warning { "Warning" } else { "Normal" };
        let (reason, action) = (cut(text.reason, WORD), cut(text.action, WORD));
        let key = json!([reporter, about, kind, reason, action]).to_string();
        if let Some(one) = self.0.get_mut(&key)
            && at.duration_since(one.last).abs() < GOES_ON
        {
            one.count = one.count.saturating_add(1);
            (one.last, one.told) = (one.last.max(at), now);
            return EventWrite::GoOn {
                path: one.path.clone(),
                body: json!({"series": {"count": one.count, "lastObservedTime": micros(one.last)}}),
            };
        }
        let text_of = |member: &str| about.get(member).and_then(Value::as_str).unwrap_or_default();
        let namespace = Some(text_of("namespace")).filter(|namespace| !namespace.is_empty());
        let collection = format!(
            "/apis/events.k8s.io/v1/namespaces/{}/events",
            namespace.unwrap_or("default")
        );
        // As the kubelet names them: told at different moments, they have different names.
        let name = cut(text_of("name").to_owned(), NAME);
        let name = format!("{name}.{:016x}", now.as_nanosecond());
        let body = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"name": name},
            "eventTime": micros(at), "type": kind, "reason": reason, "action": action, "note": cut(text.note, NOTE),
            "regarding": about, "reportingController": "outrigger-kubelet", "reportingInstance": reporter,
        });
        let one = One {
            path: format!("{collection}/{name}"),
            count: 1,
            last: at,
            told: now,
        };
        self.remember(key, one);
        EventWrite::Create {
            path: collection,
            body,
        }
    }

    /// What was written last of this path was not taken: the next begins a series.
    pub fn forget(&mut self, path: &str) {
        self.0.retain(|_, one| one.path != path);
    }

    fn remember(&mut self, key: String, one: One) {
        if self.0.len() >= KEPT
            && let Some(oldest) = self.0.iter().min_by_key(|(_, one)| one.told)
        {
            let oldest = oldest.0.clone();
            self.0.remove(&oldest);
        }
        self.0.insert(key, one);
    }
}

impl EventWrite {
    /// Of the event itself.
    pub fn path(&self) -> String {
        match self {
            Self::Create { path, body } => {
                let name = body.pointer("/metadata/name").and_then(Value::as_str);
                format!("{path}/{}", name.unwrap_or_default())
            }
            Self::GoOn { path, .. } => path.clone(),
        }
    }
}

/// As `metav1.MicroTime` is written.
fn micros(at: Timestamp) -> String {
    format!("{at:.6}")
}

/// Cut to `limit` bytes at a character boundary.
fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn text(reason: &str, happened: Option<i64>) -> EventText {
        EventText {
            warning: true,
            reason: reason.into(),
            action: "press-7/main".into(),
            note: "n".into(),
            at: happened.map(at),
        }
    }

    fn about(name: &str) -> Value {
        json!({"kind": "Pod", "namespace": "shop", "name": name, "uid": "u1"})
    }

    #[track_caller]
    fn created(write: EventWrite) -> (String, Value) {
        match write {
            EventWrite::Create { path, body } => (path, body),
            EventWrite::GoOn { .. } => panic!("{write:?}"),
        }
    }

    #[test]
    fn what_happened_in_the_dark_is_told_with_its_own_time() {
        let mut series = Series::default();
        let (path, body) =
            created(series.tell("press-7", &about("web"), text("Unhealthy", Some(-540)), at(60)));
        assert_eq!(path, "/apis/events.k8s.io/v1/namespaces/shop/events");
        assert_eq!(body["eventTime"], "2027-01-15T07:51:00.000000Z");
        assert_eq!(
            (&body["reportingInstance"], &body["regarding"]["uid"]),
            (&json!("press-7"), &json!("u1"))
        );
        // It happened three times within a minute, told at once when the link came back.
        let write = series.tell("press-7", &about("web"), text("Unhealthy", Some(-500)), at(60));
        let EventWrite::GoOn {
            path: again,
            body: more,
        } = write
        else {
            panic!("{write:?}")
        };
        let name = body["metadata"]["name"].as_str().unwrap();
        assert_eq!(again, format!("{path}/{name}"));
        let series_of = json!({"series": {"count": 2, "lastObservedTime": "2027-01-15T07:51:40.000000Z"}});
        assert_eq!(more, series_of);
        // Long after that it is another series, told in the same moment or not.
        created(series.tell("press-7", &about("web"), text("Unhealthy", Some(0)), at(61)));
    }

    #[test]
    fn nothing_happens_later_than_now_and_what_has_no_time_happens_now() {
        for happened in [None, Some(9_000)] {
            let (_, body) = created(Series::default().tell("n", &about("web"), text("R", happened), at(0)));
            assert_eq!(body["eventTime"], "2027-01-15T08:00:00.000000Z");
        }
    }

    #[test]
    fn others_are_events_of_their_own_and_what_was_not_taken_is_told_anew() {
        let mut series = Series::default();
        let first = series.tell("n", &about("web"), text("R", None), at(0));
        for other in [
            series.tell("n", &about("web"), text("S", None), at(0)),
            series.tell("n", &about("db"), text("R", None), at(0)),
            series.tell("m", &about("web"), text("R", None), at(0)),
        ] {
            created(other);
        }
        series.forget(&first.path());
        created(series.tell("n", &about("web"), text("R", None), at(1)));
        // Later than six minutes after the last it is another.
        created(series.tell("n", &about("web"), text("R", None), at(361)));
    }

    #[test]
    fn it_is_bounded() {
        let mut series = Series::default();
        for n in 0..2_000 {
            let long = text(&"é".repeat(200), None);
            let (_, body) =
                created(series.tell("n", &about(&format!("{}{n}", "a".repeat(250))), long, at(n / 100)));
            assert!(body["metadata"]["name"].as_str().unwrap().len() <= 253);
            assert!(body["reason"].as_str().unwrap().len() <= 128);
        }
        assert_eq!(series.0.len(), KEPT);
    }
}
