//! Events as a kubelet tells them: of core/v1, from `kubelet` on its node, with what is told again counted and what is too much left out.

mod correlator;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde_json::{Value, json};

pub use self::correlator::Correlator;

/// `ComponentKubelet` of `pkg/kubelet/server`: who tells it, to whoever asks for `source=kubelet`.
const COMPONENT: &str = "kubelet";
/// Limit of a reason in `pkg/apis/core/validation/events.go`.
const WORD: usize = 128;
/// What a message may have; the resources of a pod's containers are in one.
const MESSAGE: usize = 4096;
/// A name of an object, with a point and sixteen digits after it.
const NAME: usize = 253 - 17;

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventText {
    pub warning: bool,
    /// At most 128 bytes.
    pub reason: String,
    /// Cut to 4 KiB.
    pub message: String,
    /// Whose word it is, where several tell of one object: what one of them tells is neither gathered with nor measured against that of
    /// another.
    pub teller: Option<String>,
    /// Of which part of the object, `spec.containers{main}` say.
    pub field_path: Option<String>,
    /// When it happened; `None` is now. What nobody could tell at the time is told later with its own time. Events of one object at the same
    /// nanosecond are one: whoever may tell an event twice, from one process and the next, gives it the same one.
    pub at: Option<Timestamp>,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    pub kind: &'static str,
    /// `None` for what belongs to no namespace.
    pub namespace: Option<String>,
    pub name: String,
    pub uid: String,
}

/// One event to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct EventWrite {
    /// Where events of its namespace are.
    pub collection: String,
    pub name: String,
    /// The whole of it, for one that is not there.
    pub event: Value,
    /// A JSON merge patch for one that should be there; `None` for the first of its kind.
    pub changes: Option<Value>,
}

impl EventWrite {
    /// Of the event itself.
    pub fn path(&self) -> String {
        format!("{}/{}", self.collection, self.name)
    }
}

/// One event among those of its kind.
struct Counted {
    name: String,
    count: u32,
    first: Timestamp,
    last: Timestamp,
}

/// As `generateEvent` of client-go/tools/record/event.go and `eventObserve` of `events_cache.go` make it.
fn write(node: &str, about: &About, text: &EventText, counted: &Counted) -> EventWrite {
    let namespace = about.namespace.as_deref().unwrap_or("default");
    let last = seconds(counted.last);
    let mut involved = json!({"apiVersion": "v1", "kind": about.kind, "name": about.name, "uid": about.uid});
    for (member, value) in [("namespace", &about.namespace), ("fieldPath", &text.field_path)] {
        if let Some(value) = value {
            involved[member] = json!(value);
        }
    }
    EventWrite {
        collection: format!("/api/v1/namespaces/{namespace}/events"),
        name: counted.name.clone(),
        event: json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": counted.name, "namespace": namespace},
            "involvedObject": involved,
            "type": level(text), "reason": text.reason, "message": text.message,
            "source": {"component": COMPONENT, "host": node},
            "reportingComponent": COMPONENT, "reportingInstance": node,
            "firstTimestamp": seconds(counted.first), "lastTimestamp": last, "count": counted.count,
        }),
        changes: (counted.count > 1)
            .then(|| json!({"count": counted.count, "lastTimestamp": last, "message": text.message})),
    }
}

/// As the kubelet names them: told at different moments, they have different names.
fn name_of(about: &About, at: Timestamp) -> String {
    let name = cut(about.name.clone(), NAME);
    format!("{name}.{:016x}", at.as_nanosecond().max(0))
}

fn level(text: &EventText) -> &'static str {
    if text.warning { "Warning" } else { "Normal" }
}

/// As `metav1.Time` is written.
fn seconds(at: Timestamp) -> String {
    format!("{at:.0}")
}

/// Cut to `limit` bytes at a character boundary.
fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
    }
    text
}
