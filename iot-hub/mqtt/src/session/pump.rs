//! Drives one session: moves bytes and messages, keeps its deadlines, decides nothing about packets.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::acks::Acks;
use super::core::{Core, Step};
use super::wire::{Moved, Wire};
use crate::codec::{self, Violation};
use crate::intake::{Full, Intake};
use crate::metrics::{Direction, Metrics};
use crate::options::Options;
use crate::reason::DisconnectReason;
use crate::table::Slot;
use crate::topics::{Topics, UpLane};

pub(crate) struct Session<S> {
    pub(crate) wire: Wire<S>,
    pub(crate) slot: Arc<Slot>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) metrics: Metrics,
    /// Rings when a full lane of this session got room.
    space: Arc<Notify>,
    core: Core,
    acks: Acks,
    limits: Limits,
    /// A message whose lane is full. While it waits, nothing more is read from this device.
    waiting: Option<(UpLane, Bytes, Option<u16>)>,
    last_packet: Instant,
}

#[derive(Clone, Copy)]
struct Limits {
    max_packet: usize,
    silence: Duration,
    write_timeout: Duration,
}

/// Why the pump woke up.
enum Wake {
    Stopped(DisconnectReason),
    Silent,
    Stalled,
    Moved(std::io::Result<Moved>),
    Space,
    Outgoing,
    AcksDue,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    pub(crate) fn new(
        wire: Wire<S>,
        slot: Arc<Slot>,
        intake: Arc<Intake>,
        space: Arc<Notify>,
        metrics: Metrics,
        (options, keep_alive): (&Options, Duration),
    ) -> Self {
        let core = Core::new(Topics::of(slot.identity.device.clone()), options.inflight);
        let limits = Limits {
            max_packet: options.max_packet,
            // MQTT 3.1.1, 3.1.2-24.
            silence: keep_alive + keep_alive / 2,
            write_timeout: options.write_timeout,
        };
        Self {
            wire,
            slot,
            intake,
            metrics,
            space,
            core,
            acks: Acks::default(),
            limits,
            waiting: None,
            last_packet: Instant::now(),
        }
    }

    /// Runs until the session ends; the stream's own end is left to the caller.
    pub(crate) async fn run(&mut self) -> DisconnectReason {
        loop {
            if let Err(reason) = self.settle() {
                return reason;
            }
            let wake = self.wake().await;
            let moved = match wake {
                Wake::Stopped(reason) => return reason,
                Wake::Silent => return DisconnectReason::KeepAlive,
                Wake::Stalled => return DisconnectReason::WriteTimeout,
                Wake::Moved(Err(error)) => {
                    tracing::debug!(device = %self.slot.identity.device, %error, "stream failed");
                    return DisconnectReason::Io;
                }
                Wake::Moved(Ok(moved)) => moved,
                Wake::Space | Wake::Outgoing | Wake::AcksDue => continue,
            };
            if moved == Moved::End {
                return DisconnectReason::Closed;
            }
        }
    }

    /// Does all that can be done without waiting.
    fn settle(&mut self) -> Result<(), DisconnectReason> {
        self.retry_waiting();
        self.take_packets()?;
        self.fill_output()?;
        self.acks.put(Instant::now(), &mut self.wire.output);
        Ok(())
    }

    fn retry_waiting(&mut self) {
        if let Some((lane, payload, pkid)) = self.waiting.take() {
            self.deliver(lane, payload, pkid);
        }
    }

    /// Takes packets while the hub has room for messages and the stream for answers.
    fn take_packets(&mut self) -> Result<(), DisconnectReason> {
        while self.waiting.is_none() && self.wire.has_room() {
            let packet = codec::decode(&mut self.wire.input, self.limits.max_packet).map_err(reason_of)?;
            let Some(packet) = packet else {
                break;
            };
            self.last_packet = Instant::now();
            if let Step::Deliver { lane, payload, pkid } = self.core.take(packet, &mut self.wire.output)? {
                self.deliver(lane, payload, pkid);
                self.acks.put(self.last_packet, &mut self.wire.output);
            }
        }
        Ok(())
    }

    /// Hands a message to the hub, then acknowledges it, before long.
    fn deliver(&mut self, lane: UpLane, payload: Bytes, pkid: Option<u16>) {
        match self.intake.push(self.slot.connection, lane, payload) {
            Ok(()) => {
                self.metrics.message(lane.into(), Direction::Up);
                if let Some(pkid) = pkid {
                    self.acks.add(pkid, Instant::now());
                }
            }
            Err(Full(payload)) => self.waiting = Some((lane, payload, pkid)),
        }
    }

    fn fill_output(&mut self) -> Result<(), DisconnectReason> {
        while self.wire.has_room() {
            let Some((lane, payload)) = self.slot.outbox.pop(|lane| self.core.open(lane)) else {
                break;
            };
            self.core
                .put(lane, &payload, &mut self.wire.output)
                .map_err(reason_of)?;
            self.metrics.message(lane.into(), Direction::Down);
        }
        Ok(())
    }

    async fn wake(&mut self) -> Wake {
        let reading = self.waiting.is_none() && self.wire.has_room();
        if !reading {
            // A device that is not read cannot be heard; its silence counts from when it is read again.
            self.last_packet = Instant::now();
        }
        let silent = reading.then(|| self.last_packet + self.limits.silence);
        let stalled = self.wire.write_deadline(self.limits.write_timeout);
        let waiting = self.waiting.is_some();
        tokio::select! {
            reason = self.slot.stopped() => Wake::Stopped(reason),
            () = until(silent) => Wake::Silent,
            () = until(stalled) => Wake::Stalled,
            moved = self.wire.turn(reading) => Wake::Moved(moved),
            () = self.space.notified(), if waiting => Wake::Space,
            () = self.slot.outbox.pushed() => Wake::Outgoing,
            () = until(self.acks.due()) => Wake::AcksDue,
        }
    }
}

/// Never resolves without a deadline.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn reason_of(violation: Violation) -> DisconnectReason {
    match violation {
        Violation::TooLarge => DisconnectReason::PacketTooLarge,
        Violation::Qos => DisconnectReason::Qos,
        Violation::Version | Violation::Malformed => DisconnectReason::Protocol,
    }
}
