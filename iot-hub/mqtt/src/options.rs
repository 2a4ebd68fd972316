//! Limits and times of the endpoint, checked once.

use std::time::Duration;

use crate::codec::{MAX_CONNECT, MAX_CONTROL, READ_CHUNK, WRITE_BATCH};

/// Limits of one lane's queue of one device. A queue is full when either is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneLimits {
    pub messages: usize,
    /// Bytes of payload.
    pub bytes: usize,
}

/// Limits and times of the endpoint.
#[derive(Clone, Debug)]
pub struct Options {
    /// Sessions at a time; above it CONNACK 3.
    pub max_sessions: usize,
    /// Connections of one device between gate and CONNECT.
    pub max_arrivals_per_device: usize,
    /// Remaining length of a PUBLISH, both directions. Other packets have fixed, smaller limits.
    pub max_packet: usize,
    /// Payload of a will.
    pub max_will: usize,
    /// Longest keep-alive accepted.
    pub max_keep_alive: Duration,
    /// Handshake done → CONNECT complete.
    pub connect_timeout: Duration,
    /// Deadline of one question to the gate.
    pub gate_timeout: Duration,
    /// A session whose peer takes less than 4 KiB in this time is cut.
    pub write_timeout: Duration,
    /// How long a new connection waits for the end of the device's old session.
    pub takeover_timeout: Duration,
    /// How long [`Endpoint::run`](crate::Endpoint::run) waits for sessions to end after it was told to stop.
    pub stop_timeout: Duration,
    /// Unacknowledged `QoS` 1 messages on the way to a device.
    pub inflight: usize,
    /// Events waiting for the hub, of all devices together. Small on purpose: order is fair only in front of it.
    pub event_queue: usize,
    pub status: LaneLimits,
    pub bulk: LaneLimits,
    pub desired: LaneLimits,
    pub command: LaneLimits,
}

impl Default for Options {
    fn default() -> Self {
        const KIB: usize = 1024;
        Self {
            max_sessions: 20_000,
            max_arrivals_per_device: 4,
            max_packet: 256 * KIB,
            max_will: KIB,
            max_keep_alive: Duration::from_mins(30),
            connect_timeout: Duration::from_secs(10),
            gate_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(15),
            takeover_timeout: Duration::from_secs(10),
            stop_timeout: Duration::from_secs(5),
            inflight: 16,
            event_queue: 64,
            status: LaneLimits {
                messages: 32,
                bytes: 256 * KIB,
            },
            bulk: LaneLimits {
                messages: 32,
                bytes: 512 * KIB,
            },
            desired: LaneLimits {
                messages: 64,
                bytes: 1024 * KIB,
            },
            command: LaneLimits {
                messages: 64,
                bytes: 256 * KIB,
            },
        }
    }
}

impl Options {
    /// The most that the buffers and queues of one device can hold, in bytes, TLS and allocator overhead aside:
    /// four lanes, one message that waits for room, a packet being read and one being written. Buffers grow by
    /// doubling, hence the factor. Defaults: 3.3 MiB; an idle session holds none of it.
    pub fn device_memory_bound(&self) -> usize {
        let lanes = self.status.bytes + self.bulk.bytes + self.desired.bytes + self.command.bytes;
        let reading = 2 * (self.max_packet + READ_CHUNK);
        let writing = 2 * WRITE_BATCH + self.max_packet;
        lanes + self.max_packet + reading + writing + self.max_will + MAX_CONNECT + MAX_CONTROL
    }

    /// # Errors
    /// [`OptionsError`] names the first setting that cannot work.
    pub(crate) fn check(&self) -> Result<(), OptionsError> {
        let lanes = [
            ("status", self.status),
            ("bulk", self.bulk),
            ("desired", self.desired),
            ("command", self.command),
        ];
        for (lane, limits) in lanes {
            if limits.messages == 0 || limits.bytes < self.max_packet {
                return Err(OptionsError::Lane {
                    lane,
                    max_packet: self.max_packet,
                });
            }
        }
        let positive = [
            ("max_sessions", self.max_sessions),
            ("max_arrivals_per_device", self.max_arrivals_per_device),
            ("event_queue", self.event_queue),
        ];
        if let Some((name, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(OptionsError::Zero { name });
        }
        if !(1..=1024).contains(&self.inflight) {
            return Err(OptionsError::Inflight);
        }
        if !(1024..=16 * 1024 * 1024).contains(&self.max_packet) {
            return Err(OptionsError::MaxPacket);
        }
        Ok(())
    }
}

/// Options that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    #[error("lane {lane} must hold at least one message of max_packet ({max_packet}) bytes")]
    Lane { lane: &'static str, max_packet: usize },
    #[error("{name} must not be zero")]
    Zero { name: &'static str },
    #[error("inflight must be 1 to 1024")]
    Inflight,
    #[error("max_packet must be 1 KiB to 16 MiB")]
    MaxPacket,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_work_and_match_the_documented_figure() {
        let options = Options::default();
        options.check().expect("defaults are valid");
        let mib = options.device_memory_bound().div_ceil(1024 * 103);
        assert!(mib <= 33, "the documentation says 3.3 MiB, computed {mib} tenths");
    }

    #[test]
    fn a_lane_that_cannot_hold_a_packet_is_refused() {
        let options = Options {
            max_packet: 512 * 1024,
            ..Options::default()
        };
        let expect = OptionsError::Lane {
            lane: "status",
            max_packet: 512 * 1024,
        };
        assert_eq!(options.check(), Err(expect));
    }
}
