//! Prometheus' text format 0.0.4, with times. The client library of the workspace writes its own registry alone, and no times.

use std::fmt::Write as _;

use jiff::Timestamp;

pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
}

/// A text in the making. All samples of a family are added one after the other; one without samples leaves no line.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    text: String,
    family: Option<(&'static str, Kind, &'static str)>,
    begun: bool,
}

impl Exposition {
    /// What follows belongs to this family.
    pub(crate) fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) {
        self.family = Some((name, kind, help));
        self.begun = false;
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "samples are floats, as in every exporter"
    )]
    pub(crate) fn whole(&mut self, labels: &[(&str, &str)], value: Option<u64>, time: Option<Timestamp>) {
        if let Some(value) = value {
            self.sample(labels, value as f64, time);
        }
    }

    /// Nanoseconds, shown as seconds.
    #[expect(clippy::cast_precision_loss, reason = "as the kubelet's")]
    pub(crate) fn seconds(&mut self, labels: &[(&str, &str)], nanos: Option<u64>, time: Option<Timestamp>) {
        if let Some(nanos) = nanos {
            self.sample(labels, nanos as f64 / 1e9, time);
        }
    }

    pub(crate) fn sample(&mut self, labels: &[(&str, &str)], value: f64, time: Option<Timestamp>) {
        let Some((name, kind, help)) = self.family else {
            return;
        };
        if !self.begun {
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            self.begun = true;
        }
        self.text.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            let _ = write!(self.text, "{label}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = write!(self.text, " {value}");
        if let Some(time) = time {
            let _ = write!(self.text, " {}", time.as_millisecond());
        }
        self.text.push('\n');
    }

    pub(crate) fn finish(self) -> String {
        self.text
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
