//! Whether the other side of a WebSocket is there still.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// How a tunnel tells a peer that is silent from one that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liveness {
    /// After so much silence it is asked whether it is there, by a Ping.
    pub ask_after: Duration,
    /// After so much silence reading and writing fail with [`io::ErrorKind::TimedOut`].
    pub dead_after: Duration,
}

pub(super) struct Watch {
    liveness: Liveness,
    heard: Instant,
    asked: bool,
    timer: Pin<Box<Sleep>>,
}

impl Watch {
    pub(super) fn new(liveness: Liveness) -> Self {
        Self {
            liveness,
            heard: Instant::now(),
            asked: false,
            timer: Box::pin(tokio::time::sleep(liveness.ask_after)),
        }
    }

    /// The peer said something.
    pub(super) fn heard(&mut self) {
        self.heard = Instant::now();
        self.asked = false;
    }

    /// Ready when it is time to ask, and failed when it is too late.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Liveness {
            ask_after,
            dead_after,
        } = self.liveness;
        loop {
            let dead = self.heard + dead_after;
            let ask = self.heard + ask_after;
            let now = Instant::now();
            if now >= dead {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer is silent")));
            }
            if now >= ask && !self.asked {
                self.asked = true;
                return Poll::Ready(Ok(()));
            }
            let next = if self.asked { dead } else { ask.min(dead) };
            self.timer.as_mut().reset(next);
            ready!(self.timer.as_mut().poll(cx));
        }
    }
}
