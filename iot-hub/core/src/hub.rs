//! The Hub machine: Fleet and Device machines behind one `step`.
//!
//! A step changes memory first, and notes in a [`Turn`](turn::Turn) what must be written, said and looked at again. The end of the
//! step turns that into effects: at most one transaction, and behind it everything that depends on it.

mod blobs;
mod calls;
mod config;
mod deployments;
mod devices;
mod finish;
mod frames;
mod keys;
mod objects;
mod reports;
mod restore;
mod stats;
mod streams;
mod targets;
mod timers;
mod turn;
mod views;
mod waiting;

use std::collections::BTreeMap;

use edge_protocol::{AfterCommit, DeviceId, Incarnation, Now};

use crate::device::{Allowance, Device};
use crate::fleet::{DeviceIndex, Fleet};
use crate::io::{Effect, Input};

pub use config::{HubConfig, Limits};
pub use keys::WantedKey;
pub use views::{AssignmentView, WorkloadView};

use blobs::Blobs;
use keys::Keys;
use streams::Streams;
use timers::Timers;
use turn::Turn;
use waiting::Waiting;

/// See the [crate's page](crate) for the contract with the pump.
#[derive(Debug)]
pub struct Hub {
    config: HubConfig,
    incarnation: Incarnation,
    devices: BTreeMap<DeviceId, Device>,
    device_index: DeviceIndex,
    fleet: Fleet,
    blobs: Blobs,
    keys: Keys,
    timers: Timers,
    waiting: Waiting,
    streams: Streams,
    stats: stats::Book,
    /// Of connections whose device is not known.
    strangers: Allowance,
    after: AfterCommit<Effect>,
    /// What the constructor found to do; the first step does it.
    pending: Option<Turn>,
    random: u64,
}

impl Hub {
    /// Takes one input and answers with what the pump must do, in this order. No input panics, and none is lost by being repeated.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut turn = self.pending.take().unwrap_or_else(|| Turn::new(now));
        turn.now = now;
        match input {
            Input::Connected {
                device,
                connection,
                enrolment,
            } => self.connected(&mut turn, &device, connection, &enrolment),
            Input::Disconnected { device, connection } => self.disconnected(&mut turn, &device, connection),
            Input::Frame {
                device,
                connection,
                lane,
                bytes,
            } => self.frame(&mut turn, &device, connection, (lane, &bytes)),
            Input::Call { request, call } => {
                let result = self.call(&mut turn, call);
                turn.reply(request, result);
            }
            Input::StreamAsked { stream, ask } => self.stream_asked(&mut turn, stream, *ask),
            Input::TicketPresented {
                presentation,
                device,
                enrolment,
                ticket,
            } => self.ticket_presented(&mut turn, presentation, (&device, &enrolment), &ticket),
            Input::StreamOver(stream) => self.stream_over(stream),
            Input::StatsWanted {
                request,
                device,
                max_age_ms,
            } => self.stats_wanted(&mut turn, request, &device, max_age_ms),
            Input::Committed(tx) => turn.effects.extend(self.after.committed(tx)),
            Input::Wake => self.timers.woken(),
        }
        self.run_timers(&mut turn);
        self.finish(turn)
    }

    /// The next of a sequence that depends on the seed alone (splitmix64).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
