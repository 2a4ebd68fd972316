//! Results for people (tables) and for programs (JSON).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::BenchError;
use crate::apply::Series;
use crate::round::Round;
use crate::side::CpuTimes;
use crate::statistics::{Summary, float, milliseconds};

/// Where and under what circumstances it was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub processors: usize,
    pub kernel: String,
    /// Load average of the minute before; on a busy machine only ratios mean something.
    pub load_before: String,
}

impl Machine {
    /// This machine as it is now.
    ///
    /// # Errors
    /// [`BenchError::File`].
    pub fn now() -> Result<Self, BenchError> {
        let read = |path: &str| fs::read_to_string(path).map_err(BenchError::file(path));
        let load = read("/proc/loadavg")?;
        Ok(Self {
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            load_before: load.split(' ').next().unwrap_or_default().to_owned(),
        })
    }
}

/// What `apply` found.
#[derive(Debug, Serialize)]
pub struct ApplyReport {
    pub machine: Machine,
    pub seconds: f64,
    pub series: Vec<SeriesReport>,
}

#[derive(Debug, Serialize)]
pub struct SeriesReport {
    pub pods_per_round: u32,
    pub is_complete: bool,
    pub sides: BTreeMap<&'static str, SideReport>,
    /// Ours over the kubelet's; absent when only one was measured.
    pub ratio: Option<Ratio>,
}

/// One side of a series; times in milliseconds.
#[derive(Debug, Serialize)]
pub struct SideReport {
    /// Pods that were not Ready, or not gone, in time. Their rounds count for `ready` only.
    pub failed: usize,
    /// From sending a pod to its Ready in the watch. A sample is absent when nothing of it was measured.
    pub ready: Option<Summary>,
    /// From sending a round's first pod to the last one's Ready.
    pub all_ready: Option<Summary>,
    /// From sending a round's first deletion until no object was left.
    pub all_gone: Option<Summary>,
    /// CPU time outside the container runtime, per pod, until Ready and until gone.
    pub cpu_per_pod_to_ready: f64,
    pub cpu_per_pod_to_gone: f64,
    /// The same until Ready, by process.
    pub cpu_per_pod_by_process: BTreeMap<String, f64>,
    /// From sending a pod until each condition was seen true.
    pub conditions: BTreeMap<String, Summary>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratio {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
    pub all_ready_p50: f64,
    pub cpu_per_pod_to_ready: f64,
}

impl SeriesReport {
    /// `ours` over `theirs` is the ratio, when both were measured.
    pub fn new(series: &Series, ours: &str, theirs: &str) -> Self {
        let sides: BTreeMap<&'static str, SideReport> = series
            .rounds
            .iter()
            .map(|(name, rounds)| (*name, SideReport::of(rounds)))
            .collect();
        let ratio = sides
            .get(ours)
            .zip(sides.get(theirs))
            .and_then(|(ours, theirs)| Ratio::of(ours, theirs));
        Self {
            pods_per_round: series.size,
            is_complete: series.is_complete,
            sides,
            ratio,
        }
    }
}

impl SideReport {
    fn of(rounds: &[Round]) -> Self {
        let whole = || rounds.iter().filter(|round| round.is_whole());
        let pods = float(whole().map(|round| round.pods.len()).sum());
        let by_process = cpu(whole().map(|round| &round.cpu_to_ready), pods);
        let to_gone = cpu(whole().map(|round| &round.cpu_to_gone), pods);
        Self {
            failed: rounds.iter().map(|round| round.failed.len()).sum(),
            ready: Summary::of(rounds.iter().flat_map(Round::ready)),
            all_ready: Summary::of(whole().map(|round| round.all_ready)),
            all_gone: Summary::of(whole().map(|round| round.all_gone)),
            cpu_per_pod_to_ready: by_process.values().sum(),
            cpu_per_pod_to_gone: to_gone.values().sum(),
            cpu_per_pod_by_process: by_process,
            conditions: conditions(rounds),
        }
    }
}

/// Milliseconds per pod and process over all rounds.
fn cpu<'a>(rounds: impl Iterator<Item = &'a CpuTimes>, pods: f64) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    for (process, time) in rounds.flatten() {
        *sums.entry(process.clone()).or_default() += milliseconds(*time) / pods;
    }
    sums
}

fn conditions(rounds: &[Round]) -> BTreeMap<String, Summary> {
    let mut samples: BTreeMap<&str, Vec<std::time::Duration>> = BTreeMap::new();
    for (condition, after) in rounds.iter().flat_map(|round| round.pods.values().flatten()) {
        samples.entry(condition).or_default().push(*after);
    }
    samples
        .into_iter()
        .filter_map(|(condition, sample)| Some((condition.to_owned(), Summary::of(sample)?)))
        .collect()
}

impl Ratio {
    fn of(ours: &SideReport, theirs: &SideReport) -> Option<Self> {
        let (ready, all_ready) = (
            ours.ready.zip(theirs.ready)?,
            ours.all_ready.zip(theirs.all_ready)?,
        );
        let ratio = |of: fn(&Summary) -> f64| of(&ready.0) / of(&ready.1);
        Some(Self {
            p50: ratio(|ready| ready.p50),
            p90: ratio(|ready| ready.p90),
            p99: ratio(|ready| ready.p99),
            max: ratio(|ready| ready.max),
            all_ready_p50: all_ready.0.p50 / all_ready.1.p50,
            cpu_per_pod_to_ready: ours.cpu_per_pod_to_ready / theirs.cpu_per_pod_to_ready,
        })
    }
}

impl ApplyReport {
    /// Prints the figures, and the times to each condition, which tell where a pod waited.
    pub fn print(&self) {
        println!(
            "{} processors, kernel {}, load before {}; {:.0} s; milliseconds",
            self.machine.processors, self.machine.kernel, self.machine.load_before, self.seconds
        );
        let mut table = plain_table();
        table.set_header([
            "pods",
            "side",
            "n",
            "failed",
            "p50",
            "p90",
            "p99",
            "max",
            "all ready",
            "all gone",
            "CPU/pod to Ready",
            "to gone",
        ]);
        for series in &self.series {
            series.fill(&mut table);
        }
        println!(
            "{table}\nThe ratio is ours over the kubelet's; goal: at most 1.00. Goal of our CPU per pod: at most 15 ms."
        );
        let mut table = plain_table();
        table.set_header(["pods", "process", "CPU/pod to Ready"]);
        for series in &self.series {
            series.fill_processes(&mut table);
        }
        println!("\n{table}");
        let mut table = plain_table();
        table.set_header(["pods", "side", "condition", "n", "p50", "p99"]);
        for series in &self.series {
            series.fill_conditions(&mut table);
        }
        println!("\nFrom sending a pod until a condition was seen true:\n{table}");
    }
}

impl SeriesReport {
    fn fill(&self, table: &mut Table) {
        for (name, side) in &self.sides {
            let whole = |of: Option<Summary>, figure: fn(Summary) -> f64| {
                of.map_or_else(|| "–".to_owned(), |summary| format!("{:.0}", figure(summary)))
            };
            table.add_row([
                self.pods_per_round.to_string(),
                (*name).to_owned(),
                side.ready.map_or(0, |ready| ready.count).to_string(),
                side.failed.to_string(),
                whole(side.ready, |ready| ready.p50),
                whole(side.ready, |ready| ready.p90),
                whole(side.ready, |ready| ready.p99),
                whole(side.ready, |ready| ready.max),
                whole(side.all_ready, |all| all.p50),
                whole(side.all_gone, |all| all.p50),
                format!("{:.1}", side.cpu_per_pod_to_ready),
                format!("{:.1}", side.cpu_per_pod_to_gone),
            ]);
        }
        if let Some(ratio) = &self.ratio {
            let times = |figure: f64| format!("{figure:.2}");
            table.add_row([
                self.pods_per_round.to_string(),
                "ratio".to_owned(),
                String::new(),
                String::new(),
                times(ratio.p50),
                times(ratio.p90),
                times(ratio.p99),
                times(ratio.max),
                times(ratio.all_ready_p50),
                String::new(),
                times(ratio.cpu_per_pod_to_ready),
                String::new(),
            ]);
        }
    }

    fn fill_processes(&self, table: &mut Table) {
        for (process, time) in self.sides.values().flat_map(|side| &side.cpu_per_pod_by_process) {
            let cells = [
                self.pods_per_round.to_string(),
                process.clone(),
                format!("{time:.1}"),
            ];
            table.add_row(cells);
        }
    }

    fn fill_conditions(&self, table: &mut Table) {
        for (name, side) in &self.sides {
            let mut conditions: Vec<_> = side.conditions.iter().collect();
            conditions.sort_by(|(_, one), (_, other)| one.p50.total_cmp(&other.p50));
            for (condition, summary) in conditions {
                table.add_row([
                    self.pods_per_round.to_string(),
                    (*name).to_owned(),
                    condition.clone(),
                    summary.count.to_string(),
                    format!("{:.0}", summary.p50),
                    format!("{:.0}", summary.p99),
                ]);
            }
        }
    }
}

pub(crate) fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

/// Writes a result as `<name>.json` into the directory and returns the path.
///
/// # Errors
/// [`BenchError::File`].
pub fn write(directory: &Path, name: &str, report: &impl Serialize) -> Result<PathBuf, BenchError> {
    let path = directory.join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(report).map_err(|error| BenchError::File {
        path: path.clone(),
        source: error.into(),
    })?;
    fs::write(&path, text).map_err(BenchError::file(&path))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    fn round(times: &[u64], cpu: u64) -> Round {
        let pods = times.iter().enumerate().map(|(number, time)| {
            let ready = BTreeMap::from([("Ready".to_owned(), Duration::from_millis(*time))]);
            (format!("pod-{number}"), ready)
        });
        Round {
            pods: pods.collect(),
            failed: BTreeSet::new(),
            all_ready: Duration::from_millis(times.iter().copied().max().unwrap_or(0)),
            all_gone: Duration::from_secs(1),
            cpu_to_ready: CpuTimes::from([("hub".to_owned(), Duration::from_millis(cpu))]),
            cpu_to_gone: CpuTimes::from([("hub".to_owned(), Duration::from_millis(cpu * 2))]),
        }
    }

    #[test]
    fn cpu_is_per_pod_over_all_rounds_and_the_ratio_is_ours_over_theirs() {
        let series = Series {
            size: 2,
            rounds: BTreeMap::from([
                ("ours", vec![round(&[100, 200], 30), round(&[100, 100], 10)]),
                ("theirs", vec![round(&[400, 400], 80)]),
            ]),
            is_complete: true,
        };
        let report = SeriesReport::new(&series, "ours", "theirs");
        let ours = &report.sides["ours"];
        assert!((ours.cpu_per_pod_to_ready - 10.0).abs() < 1e-9);
        assert!((ours.cpu_per_pod_to_gone - 20.0).abs() < 1e-9);
        let ratio = report.ratio.unwrap();
        assert!((ratio.p50 - 0.25).abs() < 1e-9 && (ratio.max - 0.5).abs() < 1e-9);
        assert!((ratio.cpu_per_pod_to_ready - 0.25).abs() < 1e-9);
        assert!(SeriesReport::new(&series, "ours", "absent").ratio.is_none());
    }
    #[test]
    fn a_round_with_a_failed_pod_counts_for_the_others_times_only() {
        let mut broken = round(&[100], 1000);
        broken.failed.insert("pod-1".to_owned());
        let series = Series {
            size: 2,
            rounds: BTreeMap::from([
                ("ours", vec![broken.clone(), round(&[300, 300], 30)]),
                ("theirs", vec![broken]),
            ]),
            is_complete: true,
        };
        let report = SeriesReport::new(&series, "ours", "theirs");
        let ours = &report.sides["ours"];
        assert_eq!((ours.failed, ours.ready.unwrap().count), (1, 3));
        assert_eq!(ours.all_ready.unwrap().count, 1);
        assert!((ours.cpu_per_pod_to_ready - 15.0).abs() < 1e-9);
        assert!(report.sides["theirs"].all_ready.is_none() && report.ratio.is_none());
        ApplyReport {
            machine: Machine {
                processors: 1,
                kernel: String::new(),
                load_before: String::new(),
            },
            seconds: 0.0,
            series: vec![report],
        }
        .print();
    }
}
