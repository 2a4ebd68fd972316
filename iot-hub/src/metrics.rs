//! Counters and gauges of the pump, below `hub_`. Labels are fixed words.

use std::time::Duration;

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
            Note::NewIncarnation(_) => "new-incarnation",
            Note::Unreadable { .. } => "unreadable",
        };
        self.notes.get_or_create(&NoteLabel { note }).inc();
    }
}
