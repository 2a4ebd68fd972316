//! Streams that the machine has ordered: commands, logs and connections of whoever asked the hub, carried by a tunnel that this device dials.
//!
//! The machine has said what of the runtime a stream is about. Here the device's owner has the last word (`consent`), then the stream is opened,
//! begun with the device's answer, and served.
//!
//! - [`StreamsTask`] takes orders, bounds how many are served, and cuts them when the owner says so. [`StreamsHandle`] gives it orders.
//! - [`tunnel`]: the connection, and `stream`, one of it. `opening`: its first words.
//! - `serve`: one stream, from its order to its end.
//! - `consent`: the policy, the switch, and who is asked here. [`desk`]: what is open and what waits, as shown to people at the device.
//! - [`person`]: the other end of that, on the command line.
//! - `journal`: what was opened, by whom, and how it ended.
//!
//! A stream that ends, however it ends, takes all with it that it had of the runtime. It must not know of MQTT, the store, or how a runtime does
//! what is asked.

mod consent;
pub mod desk;
mod journal;
mod opening;
pub mod person;
mod serve;
mod stream;
pub mod tunnel;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use edge_agent_core::{StreamRefused, StreamTask};
use edge_protocol::v1::{StreamRefusal, Ticket};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::consent::Consents;
use self::desk::{About, Desk};
use self::journal::Journal;
use self::opening::Refusal;
use self::serve::Server;
use self::tunnel::{TunnelOptions, TunnelTask};
use crate::options::StreamOptions;
use crate::runtime::StreamRuntime;

/// Orders that wait for the task: more than a hub sends at once.
const ORDERS: usize = 128;
/// Refusals on their way to the hub at the same time. Whoever asked for a further one waits until the ticket is over.
const REFUSALS: usize = 64;
/// How often the switch is looked at while something is open.
const GLANCE: Duration = Duration::from_secs(1);

/// Gives orders; never waits.
#[derive(Debug, Clone)]
pub struct StreamsHandle {
    orders: mpsc::Sender<Order>,
    keep_alive: watch::Sender<Duration>,
}

#[derive(Debug)]
enum Order {
    Open(StreamTask),
    Refuse(StreamRefused),
}

impl StreamsHandle {
    pub fn open(&self, task: StreamTask) {
        self.order(Order::Open(task));
    }

    pub fn refuse(&self, refused: StreamRefused) {
        self.order(Order::Refuse(refused));
    }

    /// Of the link; used from the next dial on.
    pub fn keep_alive(&self, seconds: u16) {
        self.keep_alive.send_replace(Duration::from_secs(seconds.into()));
    }

    fn order(&self, order: Order) {
        if let Err(error) = self.orders.try_send(order) {
            warn!(%error, "a stream that was ordered is left to its ticket's end");
        }
    }
}

/// Owns the tunnel and every stream. When it ends, all of them do.
pub struct StreamsTask<R> {
    server: Arc<Server<R>>,
    orders: mpsc::Receiver<Order>,
    tunnel: TunnelTask,
    open: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

impl<R: StreamRuntime> StreamsTask<R> {
    /// `keep_alive` is the link's present one. What is open is shown at the desk.
    pub fn new(
        options: &StreamOptions,
        tunnel: TunnelOptions,
        keep_alive: Duration,
        runtime: R,
        desk: Desk,
    ) -> (Self, StreamsHandle) {
        let (sender, orders) = mpsc::channel(ORDERS);
        let (setter, keep_alive) = watch::channel(keep_alive);
        let (tunnel, opener) = TunnelTask::new(tunnel, keep_alive);
        let server = Server {
            runtime,
            tunnel: opener,
            consents: Consents::new(options),
            desk,
            journal: Journal::new(&options.log_file, options.log_max_bytes),
        };
        let task = Self {
            server: Arc::new(server),
            orders,
            tunnel,
            open: Arc::new(Semaphore::new(options.most)),
            refusals: Arc::new(Semaphore::new(REFUSALS)),
        };
        let handle = StreamsHandle {
            orders: sender,
            keep_alive: setter,
        };
        (task, handle)
    }

    /// Runs until cancelled. What is open then is cut.
    pub async fn run(self, token: CancellationToken) {
        let Self {
            server,
            mut orders,
            tunnel,
            open,
            refusals,
        } = self;
        let mut tunnels = JoinSet::new();
        tunnels.spawn(tunnel.run(token.clone()));
        let mut serving = Serving {
            server,
            open,
            refusals,
            cut: token.child_token(),
            tasks: JoinSet::new(),
        };
        let mut glance = tokio::time::interval(GLANCE);
        glance.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = token.cancelled() => break,
                Some(ended) = serving.tasks.join_next() => if let Err(error) = ended {
                    warn!(%error, "a stream's task has failed");
                },
                _ = glance.tick(), if !serving.tasks.is_empty() => serving.mind_the_switch(&token),
                order = orders.recv() => match order {
                    Some(order) => serving.take(order),
                    None => break,
                },
            }
        }
        serving.tasks.shutdown().await;
        tunnels.shutdown().await;
    }
}

/// The streams that are served.
struct Serving<R> {
    server: Arc<Server<R>>,
    open: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    /// Cuts all that were begun before it was made anew.
    cut: CancellationToken,
    tasks: JoinSet<()>,
}

impl<R: StreamRuntime> Serving<R> {
    fn mind_the_switch(&mut self, token: &CancellationToken) {
        if self.server.consents.is_off() {
            self.cut.cancel();
            self.cut = token.child_token();
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Open(task) => self.open(task),
            Order::Refuse(refused) => {
                let about = About::of_refused(&refused);
                let StreamRefused {
                    ticket, why, message, ..
                } = refused;
                self.refuse(about, ticket, Refusal { why, message });
            }
        }
    }

    fn open(&mut self, task: StreamTask) {
        let Ok(permit) = Arc::clone(&self.open).try_acquire_owned() else {
            let words = "as many streams are open as the device allows";
            let busy = Refusal::new(StreamRefusal::Busy, words);
            return self.refuse(About::of(&task), task.ticket, busy);
        };
        let (server, cut) = (Arc::clone(&self.server), self.cut.clone());
        self.tasks.spawn(async move {
            server.serve(task, cut).await;
            drop(permit);
        });
    }

    fn refuse(&mut self, about: About, ticket: Ticket, refusal: Refusal) {
        let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() else {
            warn!(
                stream = about.id,
                "left to its ticket's end: many are being refused"
            );
            return;
        };
        let server = Arc::clone(&self.server);
        self.tasks.spawn(async move {
            server.refuse(&about, ticket, refusal).await;
            drop(permit);
        });
    }
}
