//! One probe of one instance as a state machine (pkg/kubelet/prober/worker.go): when it is run, and what a run of equal results means.

use edge_protocol::v1::Probe;

use crate::step::{Finding, ProbeKind};

/// What is held true of an instance. Unlike a single result it changes only at a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is known yet: of a startup probe only.
    Unknown,
    Success,
    Failure,
}

/// What one result changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// Nothing that anyone must be told.
    None,
    /// A failure or a warning worth telling.
    Told,
    /// A threshold is reached, and the verdict is another than before.
    Turned,
    /// Both.
    ToldAndTurned,
}

impl News {
    pub(crate) fn told(self) -> bool {
        matches!(self, Self::Told | Self::ToldAndTurned)
    }

    pub(crate) fn turned(self) -> bool {
        matches!(self, Self::Turned | Self::ToldAndTurned)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prober {
    kind: ProbeKind,
    verdict: Verdict,
    /// The last result, and how often it came in a row.
    last: Option<(bool, u32)>,
    /// How many warnings came in a row.
    warnings: u32,
    /// It is not run again on this instance.
    on_hold: bool,
    /// When it is due, on the monotonic clock.
    next_ms: u64,
}

impl Prober {
    /// Of a new instance: not ready, alive, not started.
    pub(crate) fn new(kind: ProbeKind, next_ms: u64) -> Self {
        let verdict = match kind {
            ProbeKind::Startup => Verdict::Unknown,
            ProbeKind::Liveness => Verdict::Success,
            ProbeKind::Readiness => Verdict::Failure,
        };
        Self {
            kind,
            verdict,
            last: None,
            warnings: 0,
            on_hold: false,
            next_ms,
        }
    }

    /// Of an instance of which a success was known before the agent began: a startup probe is not run again.
    pub(crate) fn succeeded_before(kind: ProbeKind, next_ms: u64) -> Self {
        Self {
            verdict: Verdict::Success,
            on_hold: kind == ProbeKind::Startup,
            ..Self::new(kind, next_ms)
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// When it is to be run; absent when not any more.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        (!self.on_hold).then_some(self.next_ms)
    }

    /// A run begins: the next is a period later, however long this one takes.
    pub(crate) fn begins(&mut self, probe: &Probe, now_ms: u64) {
        self.next_ms = now_ms + period_ms(probe);
    }

    /// A run ended.
    pub(crate) fn ended(&mut self, probe: &Probe, finding: Finding) -> News {
        let success = finding != Finding::Failure;
        let run = match self.last {
            Some((last, run)) if last == success => run.saturating_add(1),
            _ => 1,
        };
        self.last = Some((success, run));
        let threshold = if success {
            probe.success_threshold
        } else {
            probe.failure_threshold
        };
        let reached = run >= threshold;
        self.warnings = match finding {
            Finding::Warning => self.warnings.saturating_add(1),
            Finding::Success | Finding::Failure => 0,
        };
        // The kubelet tells each failure and each warning, and its recorder drops most of them. A device tells fewer and fewer of a row.
        let told = match finding {
            Finding::Success => false,
            Finding::Warning => self.warnings.is_power_of_two(),
            Finding::Failure => run.is_power_of_two() || run == threshold,
        };
        let before = self.verdict;
        if reached {
            self.verdict = if success {
                Verdict::Success
            } else {
                Verdict::Failure
            };
            // It is about to be replaced, or has started for good.
            self.on_hold = self.kind == ProbeKind::Startup || (self.kind == ProbeKind::Liveness && !success);
        }
        match (told, self.verdict != before) {
            (false, false) => News::None,
            (true, false) => News::Told,
            (false, true) => News::Turned,
            (true, true) => News::ToldAndTurned,
        }
    }

    /// The monotonic clock began anew.
    pub(crate) fn rebase(&mut self, now_ms: u64) {
        self.next_ms = now_ms;
    }
}

pub(crate) fn period_ms(probe: &Probe) -> u64 {
    u64::from(probe.period_s.max(1)) * 1_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_protocol::v1::Action;

    fn probe() -> Probe {
        Probe {
            action: Action::TcpSocket { port: 80, host: None },
            initial_delay_s: 0,
            timeout_s: 1,
            period_s: 10,
            success_threshold: 2,
            failure_threshold: 3,
            termination_grace_period_s: None,
        }
    }

    fn finding(sign: char) -> Finding {
        match sign {
            '+' => Finding::Success,
            '!' => Finding::Warning,
            _ => Finding::Failure,
        }
    }

    /// Results as `+`, `!` and `-`; the verdict after each as `+`, `-` or `?`.
    #[track_caller]
    fn check(kind: ProbeKind, results: &str, verdicts: &str) {
        let mut prober = Prober::new(kind, 0);
        let mut seen = String::new();
        for result in results.chars() {
            prober.ended(&probe(), finding(result));
            seen.push(match prober.verdict() {
                Verdict::Unknown => '?',
                Verdict::Success => '+',
                Verdict::Failure => '-',
            });
        }
        assert_eq!(seen, verdicts, "{kind:?} {results}");
    }

    #[test]
    fn only_a_row_as_long_as_the_threshold_turns_the_verdict() {
        check(ProbeKind::Readiness, "++--+--+-+++", "-+++++++++++");
        check(ProbeKind::Readiness, "+++---", "-++++-");
        check(ProbeKind::Liveness, "--+---", "+++++-");
        check(ProbeKind::Startup, "--+", "???");
        check(ProbeKind::Startup, "---", "??-");
        check(ProbeKind::Startup, "--++", "???+");
        check(ProbeKind::Startup, "--!+", "???+");
        check(ProbeKind::Readiness, "!!--!-", "-+++++");
    }

    #[test]
    fn it_holds_once_the_instance_started_or_must_go() {
        let after = |kind, results: &str| {
            let mut prober = Prober::new(kind, 7);
            for result in results.chars() {
                prober.ended(&probe(), finding(result));
            }
            prober.due_ms()
        };
        assert_eq!(after(ProbeKind::Startup, "+"), Some(7));
        assert_eq!(after(ProbeKind::Startup, "++"), None);
        assert_eq!(after(ProbeKind::Startup, "---"), None);
        assert_eq!(after(ProbeKind::Liveness, "---"), None);
        assert_eq!(after(ProbeKind::Liveness, "++++"), Some(7));
        assert_eq!(after(ProbeKind::Readiness, "---"), Some(7));
        assert_eq!(Prober::succeeded_before(ProbeKind::Startup, 7).due_ms(), None);
        assert_eq!(
            Prober::succeeded_before(ProbeKind::Readiness, 7).due_ms(),
            Some(7)
        );
    }

    #[test]
    fn a_long_row_of_failures_is_told_less_and_less() {
        let mut prober = Prober::new(ProbeKind::Readiness, 0);
        let told = (1..=40)
            .filter(|_| prober.ended(&probe(), Finding::Failure).told())
            .count();
        assert_eq!(told, 7, "1, 2, 3, 4, 8, 16, 32");
    }

    #[test]
    fn each_row_of_warnings_is_told_anew_and_less_and_less() {
        let mut prober = Prober::new(ProbeKind::Readiness, 0);
        let results = "+!!!!!++!-!!";
        let told = |result| {
            if prober.ended(&probe(), finding(result)).told() {
                'x'
            } else {
                '.'
            }
        };
        assert_eq!(results.chars().map(told).collect::<String>(), ".xx.x...xxxx");
    }
}
