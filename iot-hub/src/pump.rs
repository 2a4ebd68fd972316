//! The pump: sole owner of the [`Hub`] machine. It carries inputs in and effects out, and decides nothing.
//!
//! * `convert`: the endpoint's types and the machine's.
//! * `writer`: the task that commits.
//! * `streams`: who waits for streams of devices.
//! * [`handle`]: what others hold.
//!
//! Commits are grouped: while one SQL transaction is under way, the machine's next ones wait and then go together, in
//! order. A store that fails ends the pump, and with it the process: what is durable is then unknown.

mod convert;
pub mod handle;
mod streams;
mod writer;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use edge_protocol::{DeviceId, Lane, TxId};
use iot_hub_core::{CallError, ConnectionId, Effect, Hub, Input, Note, RequestId, StreamId};
use iot_hub_mqtt::{CutReason, CutTarget, EndpointHandle, Event, SendError};
use iot_hub_store::{AuditRecord, Job, StoreError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Store;
use crate::clock::Clock;
use crate::fail::{FailPoint, FailPoints};
use crate::feed::Feed;
use crate::metrics::PumpMetrics;
use crate::tunnel::Tunnels;

pub(crate) use convert::device_out;
pub use handle::{PumpGone, PumpHandle, Reading};
pub(crate) use streams::{Asked, Brought};

use handle::Message;
use streams::Streams;
use writer::Done;

/// Above this many transactions in wait no further input is taken, so that memory stays bounded while the disk is slow.
const MAX_PENDING: usize = 1024;
/// Messages from the API that wait for the pump.
const MESSAGES: usize = 256;

/// Why the pump ended on its own. The process must end with it.
#[derive(Debug, thiserror::Error)]
pub enum PumpError {
    #[error("the store is lost")]
    Store(#[source] StoreError),
}

/// What the pump is made of.
pub(crate) struct Parts {
    pub(crate) hub: Hub,
    /// The one that the machine was made with.
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) endpoint: EndpointHandle,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) tunnels: Arc<Tunnels>,
    pub(crate) metrics: PumpMetrics,
    pub(crate) fail: FailPoints,
}

pub(crate) struct Pump {
    hub: Hub,
    clock: Clock,
    endpoint: EndpointHandle,
    events: mpsc::Receiver<Event>,
    messages: mpsc::Receiver<Message>,
    /// Streams whose askers have gone.
    overs: mpsc::UnboundedReceiver<StreamId>,
    streams: Streams,
    tunnels: Arc<Tunnels>,
    feed: Arc<Feed>,
    metrics: PumpMetrics,
    fail: FailPoints,
    /// The machine counts connections with plain numbers; the endpoint's own ids cannot be made from them.
    connections: HashMap<ConnectionId, iot_hub_mqtt::ConnectionId>,
    replies: BTreeMap<RequestId, oneshot::Sender<Result<(), CallError>>>,
    last_request: u64,
    pending: Vec<Job>,
    /// The store, while no commit is under way.
    writer: writer::Writer,
    wake: Option<u64>,
}

/// Why the loop turned.
enum Turn {
    Stop,
    Committed(Result<Done, StoreError>),
    Wake,
    Event(Event),
    Message(Message),
    Over(StreamId),
}

impl Pump {
    pub(crate) fn new(parts: Parts) -> (Self, PumpHandle) {
        let Parts {
            hub,
            clock,
            store,
            endpoint,
            events,
            feed,
            tunnels,
            metrics,
            fail,
        } = parts;
        let (sender, messages) = mpsc::channel(MESSAGES);
        let (over, overs) = mpsc::unbounded_channel();
        let pump = Self {
            hub,
            clock,
            endpoint,
            events,
            messages,
            overs,
            streams: Streams::default(),
            tunnels,
            feed: Arc::clone(&feed),
            metrics,
            fail,
            connections: HashMap::new(),
            replies: BTreeMap::new(),
            last_request: 0,
            pending: Vec::new(),
            writer: writer::Writer::new(store),
            wake: None,
        };
        (pump, PumpHandle::new(sender, over, feed))
    }

    /// Runs until `stop`, then commits what the machine has asked for so far and returns. Stop what feeds it first.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), PumpError> {
        // What the machine's constructor found to do.
        self.step(Input::Wake, None);
        loop {
            self.begin_commit();
            match self.next(&stop).await {
                Turn::Stop => break,
                Turn::Committed(done) => self.committed(done.map_err(PumpError::Store)?),
                Turn::Wake => {
                    self.wake = None;
                    self.step(Input::Wake, None);
                }
                Turn::Event(event) => self.event(event),
                Turn::Message(message) => self.message(message),
                Turn::Over(stream) => self.over(stream),
            }
            self.metrics.pending(self.pending.len());
        }
        while self.writer.is_busy() || !self.pending.is_empty() {
            self.begin_commit();
            let done = self.writer.done().await.map_err(PumpError::Store)?;
            self.committed(done);
        }
        Ok(())
    }

    async fn next(&mut self, stop: &CancellationToken) -> Turn {
        let open = self.pending.len() < MAX_PENDING;
        let wake = self
            .wake
            .map(|mono_ms| Instant::from_std(self.clock.instant(mono_ms)));
        let timer = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => Turn::Stop,
            done = self.writer.done(), if self.writer.is_busy() => Turn::Committed(done),
            () = timer => Turn::Wake,
            // Whoever feeds these may end first; that is for its own task to report.
            Some(event) = self.events.recv(), if open => Turn::Event(event),
            Some(message) = self.messages.recv(), if open => Turn::Message(message),
            Some(stream) = self.overs.recv() => Turn::Over(stream),
        }
    }

    fn begin_commit(&mut self) {
        if !self.writer.is_busy() && !self.pending.is_empty() {
            self.fail.hit(FailPoint::BeforeCommit);
            let jobs = std::mem::take(&mut self.pending);
            self.metrics.commit(jobs.len());
            self.writer.begin(jobs);
        }
    }

    fn committed(&mut self, done: Done) {
        self.fail.hit(FailPoint::AfterCommit);
        self.metrics.committed(done.took);
        self.feed.advance(done.entries);
        for tx in done.txs {
            self.step(Input::Committed(tx), None);
        }
    }

    fn event(&mut self, event: Event) {
        if let Event::Connected { connection, .. } = &event {
            self.connections
                .insert(ConnectionId(connection.get()), *connection);
        }
        let ended = match &event {
            Event::Disconnected { connection, .. } => Some(ConnectionId(connection.get())),
            _ => None,
        };
        if let Some(input) = convert::input(&self.hub, event) {
            self.step(input, None);
        }
        if let Some(connection) = ended {
            self.connections.remove(&connection);
        }
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Read(read) => read(&Reading {
                hub: &self.hub,
                now: self.clock.now(),
                revision: self.feed.revision(),
            }),
            Message::Call { call, cause, reply } => {
                let request = self.request(reply);
                self.step(Input::Call { request, call }, cause);
            }
            // Whoever asked and has gone already could not end what begins now.
            Message::Ask { asker, .. } if asker.is_gone() => {}
            Message::Ask { ask, cause, asker } => {
                let stream = asker.stream;
                self.streams.wait(asker);
                self.step(Input::StreamAsked { stream, ask }, Some(cause));
            }
            Message::Present {
                identity: (device, enrolment),
                ticket,
                brought,
            } => {
                let input = Input::TicketPresented {
                    presentation: self.streams.keep(*brought),
                    device,
                    enrolment,
                    ticket,
                };
                self.step(input, None);
            }
            Message::WantStats {
                device,
                max_age_ms,
                reply,
            } => {
                let request = self.request(reply);
                let wanted = Input::StatsWanted {
                    request,
                    device,
                    max_age_ms,
                };
                self.step(wanted, None);
            }
        }
    }

    fn over(&mut self, stream: StreamId) {
        self.streams.forget(stream);
        self.step(Input::StreamOver(stream), None);
    }

    fn request(&mut self, reply: oneshot::Sender<Result<(), CallError>>) -> RequestId {
        self.last_request += 1;
        let request = RequestId(self.last_request);
        self.replies.insert(request, reply);
        request
    }

    fn step(&mut self, input: Input, mut cause: Option<AuditRecord>) {
        let now = self.clock.now();
        for effect in self.hub.step(now, input) {
            match effect {
                Effect::Commit(tx) => self.pending.push(Job {
                    tx,
                    at_ms: now.wall_ms,
                    cause: cause.take(),
                }),
                Effect::Send {
                    device,
                    connection,
                    lane,
                    bytes,
                } => {
                    self.fail.hit(FailPoint::BeforeSend);
                    self.send(&device, connection, lane, bytes);
                }
                Effect::Cut {
                    device,
                    connection,
                    why,
                } => {
                    tracing::info!(%device, why, "cutting the connection");
                    self.cut(&device, connection);
                }
                Effect::Reply { request, result } => self.reply(request, result),
                Effect::GiveStream { presentation, stream } => self.streams.give(presentation, stream),
                Effect::EndStream { stream, why } => self.streams.end(stream, why),
                Effect::CutTunnel { device } => self.tunnels.cut(&device),
                Effect::Announce(change) => self.feed.announce(change),
                Effect::WakeAt(mono_ms) => self.wake = Some(mono_ms),
                Effect::Report(note) => {
                    cause = cause.or_else(|| convert::cause(&note, now.wall_ms));
                    self.report(&note);
                }
            }
        }
    }

    fn send(&self, device: &DeviceId, connection: ConnectionId, lane: Lane, bytes: Vec<u8>) {
        let (Some(id), Some(lane)) = (self.connections.get(&connection), convert::down_lane(lane)) else {
            return;
        };
        match self
            .endpoint
            .send(&convert::device_out(device), *id, lane, bytes.into())
        {
            Ok(()) | Err(SendError::NotConnected) => {}
            // The link is a lossy pipe; the machine repeats what matters.
            Err(error @ (SendError::QueueFull | SendError::TooLarge { .. })) => {
                self.metrics.dropped();
                tracing::warn!(%device, %error, "a frame could not be queued");
            }
        }
    }

    fn cut(&self, device: &DeviceId, connection: ConnectionId) {
        if let Some(id) = self.connections.get(&connection) {
            let target = CutTarget::Connection(convert::device_out(device), *id);
            self.endpoint.cut(&target, CutReason::Requested);
        }
    }

    fn reply(&mut self, request: RequestId, result: Result<(), CallError>) {
        if let Some(reply) = self.replies.remove(&request) {
            // A caller that has gone away learns the result when it asks again.
            drop(reply.send(result));
        }
    }

    fn report(&self, note: &Note) {
        self.metrics.note(note);
        match note {
            Note::FrameRefused { device, why } => tracing::warn!(%device, why, "frame refused"),
            Note::SessionBegan { device, session } => {
                tracing::info!(%device, session_epoch = %session, "session began");
            }
            Note::SetOffered {
                device,
                generation,
                form,
            } => tracing::debug!(%device, %generation, form, "set offered"),
            Note::Quarantined { device, generation } => {
                tracing::error!(%device, %generation, "the device holds something against a set");
            }
            Note::SetRefused {
                device,
                generation,
                stage,
            } => tracing::error!(%device, %generation, ?stage, "the device refuses a set"),
            Note::Strangers { device, count, uid } => {
                tracing::warn!(%device, count, %uid, "status of workloads that are none of the device's");
            }
            // The counter and the device's document show it; a line each would be the flood.
            Note::Surplus { device, what } => tracing::trace!(%device, what, "above the device's rate"),
            Note::TicketRefused { device, why } => {
                tracing::warn!(%device, why, "a stream with a ticket that is not good");
            }
            Note::NewIncarnation(incarnation) => tracing::info!(%incarnation, "a new incarnation begins"),
            Note::Unreadable { uid, why } => {
                tracing::error!(%uid, why, "a stored deployment is not readable");
            }
        }
    }
}

/// The transactions of a batch.
fn ids(jobs: &[Job]) -> Vec<TxId> {
    jobs.iter().map(|job| job.tx.id).collect()
}
