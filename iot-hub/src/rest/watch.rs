//! `/watch`: server-sent events. A watcher reads the log from its revision on, then what was announced, then waits.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, Sse};
use edge_protocol::DeviceId;
use edge_protocol::v1::DeviceEvent;
use futures_util::Stream;
use iot_hub_api::{Change, DeviceEventRecord, ProblemCode, Revision, WatchEvent};
use iot_hub_core::Change as Subject;
use iot_hub_store::{HubStore as _, LogEntry, LogPage, StoreError};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, watch as position};
use utoipa::IntoParams;

use super::auth::Caller;
use super::problem::{Query, Refusal};
use super::{Api, view};
use crate::feed::{Position, Recent};
use crate::grant::Principal;
use crate::pump::{PumpGone, Reading};

/// A silent watch says this often that it lives.
const BOOKMARK: Duration = Duration::from_secs(10);
/// Subjects read at a time, so that one watcher does not hold up the machine.
const PAGE: u32 = 128;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct WatchQuery {
    /// A list's revision; the header `Last-Event-ID` of a resumed stream goes before it. Without either: from now on.
    from: Option<u64>,
}

/// Everything that changes after a revision and that the caller may see, each event with the present state of its subject.
#[utoipa::path(get, path = "/api/v1/watch", tag = "watch", params(WatchQuery),
    responses((status = 200, description = "Server-sent events; `id` is the revision", body = WatchEvent,
        content_type = "text/event-stream")))]
pub(super) async fn watch(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<WatchQuery>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let from = match headers.get("last-event-id") {
        None => query.from.unwrap_or_else(|| api.pump.feed().revision()),
        Some(id) => id
            .to_str()
            .ok()
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| Refusal::new(ProblemCode::BadRequest, "Last-Event-ID is not a revision"))?,
    };
    let place = Arc::clone(&api.watches).try_acquire_owned();
    let place = place.map_err(|_| Refusal::new(ProblemCode::TooManyRequests, "too many watches are open"))?;
    // The call's own place is free again; the watch has its own.
    let principal = caller.principal.clone();
    drop(caller);
    let watcher = Watcher::new(api, principal, from, place);
    Ok(Sse::new(futures_util::stream::unfold(
        watcher,
        |mut watcher| async move {
            let event = watcher.next().await?;
            let id = event.revision.to_string();
            let data = serde_json::to_string(&event).expect("a watch event has only string keys");
            Some((Ok(Event::default().id(id).data(data)), watcher))
        },
    )))
}

struct Watcher {
    api: Api,
    principal: Principal,
    position: position::Receiver<Position>,
    revision: u64,
    announced: u64,
    queue: VecDeque<WatchEvent>,
    phase: Phase,
    _place: OwnedSemaphorePermit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// What was missed is being told; its end is marked by a bookmark.
    Replay,
    Live,
    Ended,
}

/// Why a watch ends early; the client resumes.
enum Broken {
    Store(StoreError),
    Stopping,
}

impl From<PumpGone> for Broken {
    fn from(_: PumpGone) -> Self {
        Self::Stopping
    }
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Watcher {
    fn new(api: Api, principal: Principal, from: u64, place: OwnedSemaphorePermit) -> Self {
        let position = api.pump.feed().subscribe();
        let announced = api.pump.feed().seen_at(from);
        let (queue, phase) = (VecDeque::new(), Phase::Replay);
        Self {
            api,
            principal,
            position,
            revision: from,
            announced,
            queue,
            phase,
            _place: place,
        }
    }

    async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(event);
            }
            if self.phase == Phase::Ended {
                return None;
            }
            match self.fill().await {
                Ok(()) => {}
                Err(Broken::Stopping) => return None,
                Err(Broken::Store(error)) => {
                    tracing::error!(%error, principal = self.principal.name, "a watch ends: the store failed");
                    return None;
                }
            }
        }
    }

    /// Puts what comes next into the queue, waiting for it if need be. It may turn out to be nothing that the caller may see.
    async fn fill(&mut self) -> Result<(), Broken> {
        let head = self.position.borrow_and_update().revision;
        if self.revision != head {
            return self.read_log(head).await;
        }
        let (upto, subjects) = self
            .api
            .pump
            .feed()
            .announced_after(self.announced, PAGE as usize);
        if !subjects.is_empty() {
            self.announced = upto;
            let announced = |change| Recent {
                revision: self.revision,
                change,
                event: None,
            };
            let subjects = subjects.into_iter().map(announced).collect();
            return self.tell(subjects).await;
        }
        if self.phase == Phase::Replay {
            self.phase = Phase::Live;
            self.bookmark();
            return Ok(());
        }
        tokio::select! {
            changed = self.position.changed() => changed.map_err(|_| Broken::Stopping),
            () = tokio::time::sleep(BOOKMARK) => {
                self.bookmark();
                Ok(())
            }
            () = self.api.stop.cancelled() => Err(Broken::Stopping),
        }
    }

    /// The log after the watcher's revision: from memory, or for one that is far behind from the store. `None` when the store no
    /// longer has it either.
    async fn page(&self) -> Result<Option<Vec<Recent>>, Broken> {
        let recent = self.api.pump.feed().recent_after(self.revision, PAGE as usize);
        if recent.is_some() {
            return Ok(recent);
        }
        let stored = |entry: LogEntry| Recent {
            revision: entry.revision,
            change: entry.change,
            event: None,
        };
        Ok(match self.api.store.log_after(self.revision, PAGE).await? {
            LogPage::Entries(entries) => Some(entries.into_iter().map(stored).collect()),
            LogPage::Unknown => None,
        })
    }

    async fn read_log(&mut self, head: u64) -> Result<(), Broken> {
        let Some(entries) = self.page().await? else {
            self.phase = Phase::Ended;
            self.queue.push_back(WatchEvent {
                revision: Revision(head),
                change: Change::Resync,
            });
            return Ok(());
        };
        let Some(last) = entries.last().map(|entry| entry.revision) else {
            // The disk was ahead of the machine; it is about to be told.
            return self.position.changed().await.map_err(|_| Broken::Stopping);
        };
        // Each subject once, where it changed last: its state then is the state now.
        let mut latest = BTreeMap::new();
        for entry in entries {
            latest.insert(entry.change.clone(), entry);
        }
        let mut subjects: Vec<_> = latest.into_values().collect();
        subjects.sort_by_key(|entry| entry.revision);
        self.tell(subjects).await?;
        self.revision = last;
        Ok(())
    }

    async fn tell(&mut self, subjects: Vec<Recent>) -> Result<(), Broken> {
        let principal = self.principal.clone();
        let told = self.api.pump.read(move |reading| {
            let look = |entry: Recent| {
                let present = present(reading, &principal, entry.change);
                (entry.revision, present, entry.event)
            };
            subjects.into_iter().map(look).collect::<Vec<_>>()
        });
        for (revision, present, event) in told.await? {
            let change = match present {
                Present::Told(change) => *change,
                Present::Hidden => continue,
                Present::Gone(subject) => {
                    self.api.pump.feed().forget(&subject);
                    continue;
                }
                Present::Event(device, seq) => match self.event(&device, seq, event).await? {
                    Some(event) => Change::DeviceEvent {
                        record: DeviceEventRecord { device, event },
                    },
                    None => continue,
                },
            };
            self.queue.push_back(WatchEvent {
                revision: Revision(revision),
                change,
            });
        }
        Ok(())
    }

    /// An event that is in memory, or else in the store, if it is not compacted away.
    async fn event(
        &self,
        device: &DeviceId,
        seq: u64,
        known: Option<Arc<DeviceEvent>>,
    ) -> Result<Option<DeviceEvent>, Broken> {
        match known {
            Some(event) => Ok(Some(Arc::unwrap_or_clone(event))),
            None => Ok(self.api.store.event(device, seq).await?),
        }
    }

    fn bookmark(&mut self) {
        self.queue.push_back(WatchEvent {
            revision: Revision(self.revision),
            change: Change::Bookmark,
        });
    }
}

/// What a subject is now, to one principal.
enum Present {
    Told(Box<Change>),
    /// Out of the principal's scope.
    Hidden,
    Gone(Subject),
    /// With its number.
    Event(DeviceId, u64),
}

fn present(reading: &Reading<'_>, principal: &Principal, subject: Subject) -> Present {
    let told = |change| Present::Told(Box::new(change));
    match &subject {
        Subject::Device { device } => match reading.hub.device(device).map(view::device) {
            None => Present::Gone(subject),
            Some(device) if principal.sees(&device) => told(Change::Device {
                device: Box::new(device),
            }),
            Some(_) => Present::Hidden,
        },
        Subject::Deployment { uid } | Subject::DeploymentEnded { uid } => match reading.hub.deployment(uid) {
            // Whose it was is forgotten with it; a UID alone tells nobody anything.
            None if matches!(subject, Subject::DeploymentEnded { .. }) => {
                told(Change::DeploymentEnded { uid: uid.clone() })
            }
            None => Present::Gone(subject),
            Some(found) if principal.owns(&found.record.spec.source) => told(Change::Deployment {
                deployment: Box::new(view::deployment(found, reading, principal)),
            }),
            Some(_) => Present::Hidden,
        },
        Subject::DeviceEvent { device, seq } => match reading.hub.device(device).map(view::device) {
            Some(seen) if principal.sees(&seen) => Present::Event(device.clone(), *seq),
            _ => Present::Hidden,
        },
    }
}
