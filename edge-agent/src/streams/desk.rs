//! What people at the device see of streams, and where they say yes or no.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use edge_agent_core::{StreamRefused, StreamTask, StreamWork};
use edge_protocol::text::sanitise;
use edge_protocol::v1::{Operator, StreamRequest, Ticket};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What is told of a command, in bytes.
const MAX_TOLD: usize = 1024;

/// One stream in words: clean, and bounded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Of its ticket, which is spent by the time that anybody could use this.
    pub id: String,
    pub kind: String,
    pub uid: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The first KiB of its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    pub principal: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl About {
    pub(super) fn of(task: &StreamTask) -> Self {
        let about = Self::by(&task.ticket, &task.operator);
        let about = Self {
            uid: task.pod.uid.to_string(),
            namespace: sanitise(&task.pod.namespace),
            pod: sanitise(&task.pod.name),
            ..about
        };
        match &task.work {
            StreamWork::Exec {
                container, command, ..
            } => about.command(container, command),
            StreamWork::Attach { container, .. } => about.container("attach", container),
            StreamWork::PortForward { port, .. } => about.port(*port),
            StreamWork::Logs { container, .. } => about.container("logs", container),
        }
    }

    pub(super) fn of_refused(refused: &StreamRefused) -> Self {
        let about = Self::by(&refused.ticket, &refused.operator);
        let with = |uid: &edge_protocol::PodUid| Self {
            uid: uid.to_string(),
            ..about.clone()
        };
        match &refused.request {
            StreamRequest::Exec {
                uid,
                container,
                command,
                ..
            } => with(uid).command(container, command),
            StreamRequest::Attach { uid, container, .. } => with(uid).container("attach", container),
            StreamRequest::PortForward { uid, port } => with(uid).port(*port),
            StreamRequest::Logs { uid, container, .. } => with(uid).container("logs", container),
            StreamRequest::Unknown => about,
        }
    }

    fn by(ticket: &Ticket, operator: &Operator) -> Self {
        let mut id = String::from(ticket.clone());
        id.truncate(8);
        Self {
            id,
            kind: "unknown".to_owned(),
            uid: String::new(),
            namespace: String::new(),
            pod: String::new(),
            container: None,
            port: None,
            command: Vec::new(),
            principal: sanitise(&operator.principal),
            user: operator.user.as_deref().map(sanitise),
        }
    }

    fn command(self, container: &str, command: &[String]) -> Self {
        let mut told = Vec::new();
        let mut room = MAX_TOLD;
        for argument in command {
            let argument = sanitise(argument);
            if argument.len() > room {
                told.push("…".to_owned());
                break;
            }
            room -= argument.len();
            told.push(argument);
        }
        Self {
            command: told,
            ..self.container("exec", container)
        }
    }

    fn container(self, kind: &str, container: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            container: Some(sanitise(container)),
            ..self
        }
    }

    fn port(self, port: u16) -> Self {
        Self {
            kind: "port-forward".to_owned(),
            port: Some(port),
            ..self
        }
    }

    #[cfg(test)]
    pub(super) fn example(kind: &str) -> Self {
        let operator = Operator {
            principal: "kubelet".to_owned(),
            user: Some("ada".to_owned()),
        };
        Self::by(&Ticket::from_bytes([1; 32]), &operator).container(kind, "main")
    }
}

/// One row of what is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    pub state: State,
    pub since_s: u64,
    pub stream: About,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is being prepared.
    Opening,
    /// Somebody at the device has to agree.
    Asks,
    Open,
}

/// All streams under way. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Desk(Arc<Mutex<BTreeMap<String, Entry>>>);

#[derive(Debug)]
struct Entry {
    about: About,
    state: State,
    since: Instant,
    /// Whom to tell what is decided.
    asks: Option<oneshot::Sender<bool>>,
}

/// One stream's place at the desk; dropped, it is shown no more.
#[derive(Debug)]
pub(super) struct Place {
    desk: Desk,
    id: String,
}

impl Desk {
    /// What is under way, in the order of ids.
    pub fn shown(&self) -> Vec<Shown> {
        let show = |entry: &Entry| Shown {
            state: entry.state,
            since_s: entry.since.elapsed().as_secs(),
            stream: entry.about.clone(),
        };
        self.entries().values().map(show).collect()
    }

    /// Somebody at the device decides about a stream that asks; false if none of this id does.
    pub fn decide(&self, id: &str, allow: bool) -> bool {
        let asks = self.entries().get_mut(id).and_then(|entry| entry.asks.take());
        asks.is_some_and(|asks| asks.send(allow).is_ok())
    }

    /// Absent if a stream of the same ticket is under way: it was ordered twice.
    pub(super) fn enter(&self, about: About) -> Option<Place> {
        let mut entries = self.entries();
        let id = about.id.clone();
        if entries.contains_key(&id) {
            return None;
        }
        let entry = Entry {
            about,
            state: State::Opening,
            since: Instant::now(),
            asks: None,
        };
        entries.insert(id.clone(), entry);
        let desk = self.clone();
        Some(Place { desk, id })
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // Nothing in between can fail half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits until somebody has decided; false if nobody has in this time. Cancelling takes the question back.
    pub(super) async fn ask(&self, patience: Duration) -> bool {
        let (asks, decided) = oneshot::channel();
        self.set(State::Asks, Some(asks));
        let decided = tokio::time::timeout(patience, decided).await;
        self.set(State::Opening, None);
        matches!(decided, Ok(Ok(true)))
    }

    pub(super) fn open(&self) {
        self.set(State::Open, None);
    }

    fn set(&self, state: State, asks: Option<oneshot::Sender<bool>>) {
        if let Some(entry) = self.desk.entries().get_mut(&self.id) {
            (entry.state, entry.asks) = (state, asks);
            entry.since = Instant::now();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.desk.entries().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_told_in_bounds_and_clean() {
        let told = |command: &[&str]| {
            let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
            About::example("exec").command("c", &command).command
        };
        assert_eq!(told(&["sh", "-c", "a\u{1b}[2J"]), ["sh", "-c", "a\\u{1b}[2J"]);
        let long = "x".repeat(MAX_TOLD);
        assert_eq!(told(&["sh", &long, "y"]), ["sh", "…"]);
    }

    #[tokio::test]
    async fn a_question_is_answered_once_and_goes_with_its_stream() {
        let desk = Desk::default();
        let about = About::example("exec");
        let place = desk.enter(about.clone()).unwrap();
        assert!(desk.enter(about.clone()).is_none(), "the same ticket");
        assert!(!desk.decide(&about.id, true), "it does not ask");
        let patience = Duration::from_secs(10);
        for answer in [true, false] {
            let (allowed, ()) = tokio::join!(place.ask(patience), async {
                assert_eq!(desk.shown()[0].state, State::Asks);
                assert!(desk.decide(&about.id, answer));
                assert!(!desk.decide(&about.id, answer), "it was answered");
            });
            assert_eq!(allowed, answer);
        }
        assert!(!place.ask(Duration::ZERO).await, "nobody answered");
        place.open();
        assert_eq!(desk.shown()[0].state, State::Open);
        drop(place);
        assert!(desk.shown().is_empty());
    }
}
