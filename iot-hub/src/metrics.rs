//! Counters and gauges of the pump, below `hub_`. Labels are fixed words.

use std::time::Duration;

use edge_protocol::v1::StreamRefusal;
use iot_hub_core::Note;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NoteLabel {
    note: &'static str,
}

#[derive(Clone, Debug)]
pub(crate) struct PumpMetrics {
    commits: Counter,
    transactions: Counter,
    pending: Gauge,
    dropped: Counter,
    seconds: Histogram,
    notes: Family<NoteLabel, Counter>,
}

impl PumpMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            commits: Counter::default(),
            transactions: Counter::default(),
            pending: Gauge::default(),
            dropped: Counter::default(),
            seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            notes: Family::default(),
        };
        let registry = registry.sub_registry_with_prefix("hub");
        registry.register("commits", "Transactions of the store", metrics.commits.clone());
        registry.register(
            "transactions",
            "Transactions of the machine, grouped into commits",
            metrics.transactions.clone(),
        );
        registry.register(
            "pending_transactions",
            "Transactions that wait for the store",
            metrics.pending.clone(),
        );
        registry.register(
            "dropped_frames",
            "Frames for devices whose queue was full",
            metrics.dropped.clone(),
        );
        registry.register("commit_seconds", "Time of one commit", metrics.seconds.clone());
        registry.register("notes", "What the machine reported", metrics.notes.clone());
        metrics
    }

    pub(crate) fn commit(&self, transactions: usize) {
        self.commits.inc();
        self.transactions.inc_by(transactions as u64);
    }

    pub(crate) fn committed(&self, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn pending(&self, transactions: usize) {
        self.pending.set(i64::try_from(transactions).unwrap_or(i64::MAX));
    }

    pub(crate) fn dropped(&self) {
        self.dropped.inc();
    }

    pub(crate) fn note(&self, note: &Note) {
        let note = match note {
            Note::FrameRefused { .. } => "frame-refused",
            Note::SessionBegan { .. } => "session-began",
            Note::SetOffered { .. } => "set-offered",
            Note::Quarantined { .. } => "quarantined",
            Note::SetRefused { .. } => "set-refused",
            Note::Strangers { .. } => "strangers",
            Note::Surplus { what, .. } => what,
            Note::TicketRefused { .. } => "ticket-refused",
            Note::NewIncarnation(_) => "new-incarnation",
            Note::Unreadable { .. } => "unreadable",
        };
        self.notes.get_or_create(&NoteLabel { note }).inc();
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabel {
    why: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

/// Streams to devices, below `hub_streams`.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamMetrics {
    tunnels: Gauge,
    open: Gauge,
    refused: Family<RefusalLabel, Counter>,
    bytes: Family<DirectionLabel, Counter>,
}

impl StreamMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("hub_streams");
        registry.register("tunnels", "Devices with a tunnel", metrics.tunnels.clone());
        registry.register("open", "Streams that are open", metrics.open.clone());
        registry.register(
            "refused",
            "Streams that did not begin, by reason",
            metrics.refused.clone(),
        );
        registry.register("bytes", "Bytes of streams that have ended", metrics.bytes.clone());
        metrics
    }

    pub(crate) fn tunnel_began(&self) {
        self.tunnels.inc();
    }

    pub(crate) fn tunnel_ended(&self) {
        self.tunnels.dec();
    }

    /// A stream is open until what this returns is dropped.
    pub(crate) fn open(&self) -> OpenStream {
        self.open.inc();
        OpenStream(self.open.clone())
    }

    pub(crate) fn refused(&self, why: StreamRefusal) {
        let why = match why {
            StreamRefusal::NotFound => "not-found",
            StreamRefusal::NotRunning => "not-running",
            StreamRefusal::Forbidden => "forbidden",
            StreamRefusal::Busy => "busy",
            StreamRefusal::Unsupported => "unsupported",
            StreamRefusal::Failed => "failed",
            StreamRefusal::NotConnected => "not-connected",
            StreamRefusal::NoStreams => "no-streams",
            StreamRefusal::Unanswered => "unanswered",
            StreamRefusal::TooMany => "too-many",
            StreamRefusal::Unknown => "unknown",
        };
        self.refused.get_or_create(&RefusalLabel { why }).inc();
    }

    pub(crate) fn moved(&self, (from_device, to_device): (u64, u64)) {
        let direction = |direction| self.bytes.get_or_create(&DirectionLabel { direction });
        direction("from-device").inc_by(from_device);
        direction("to-device").inc_by(to_device);
    }
}

/// See [`StreamMetrics::open`].
#[derive(Debug)]
pub(crate) struct OpenStream(Gauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}
