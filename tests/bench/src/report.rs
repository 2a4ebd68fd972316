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
    /// From sending a pod to its Ready in the watch.
    pub ready: Summary,
    /// From sending a round's first pod to the last one's Ready.
    pub all_ready: Summary,
    /// From sending a round's first deletion until no object was left.
    pub all_gone: Summary,
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
            .filter_map(|(name, rounds)| Some((*name, SideReport::of(rounds)?)))
            .collect();
        let ratio = sides
            .get(ours)
            .zip(sides.get(theirs))
            .map(|(ours, theirs)| Ratio::of(ours, theirs));
        Self {
            pods_per_round: series.size,
            is_complete: series.is_complete,
            sides,
            ratio,
        }
    }
}

impl SideReport {
    fn of(rounds: &[Round]) -> Option<Self> {
        let pods = float(rounds.iter().map(|round| round.pods.len()).sum());
        let by_process = cpu(rounds.iter().map(|round| &round.cpu_to_ready), pods);
        let to_gone = cpu(rounds.iter().map(|round| &round.cpu_to_gone), pods);
        Some(Self {
            ready: Summary::of(rounds.iter().flat_map(Round::ready))?,
            all_ready: Summary::of(rounds.iter().map(|round| round.all_ready))?,
            all_gone: Summary::of(rounds.iter().map(|round| round.all_gone))?,
            cpu_per_pod_to_ready: by_process.values().sum(),
            cpu_per_pod_to_gone: to_gone.values().sum(),
            cpu_per_pod_by_process: by_process,
            conditions: conditions(rounds),
        })
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
    fn of(ours: &SideReport, theirs: &SideReport) -> Self {
        Self {
            p50: ours.ready.p50 / theirs.ready.p50,
            p90: ours.ready.p90 / theirs.ready.p90,
            p99: ours.ready.p99 / theirs.ready.p99,
            max: ours.ready.max / theirs.ready.max,
            all_ready_p50: ours.all_ready.p50 / theirs.all_ready.p50,
            cpu_per_pod_to_ready: ours.cpu_per_pod_to_ready / theirs.cpu_per_pod_to_ready,
        }
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
            let whole = |figure: f64| format!("{figure:.0}");
            table.add_row([
                self.pods_per_round.to_string(),
                (*name).to_owned(),
                side.ready.count.to_string(),
                whole(side.ready.p50),
                whole(side.ready.p90),
                whole(side.ready.p99),
                whole(side.ready.max),
                whole(side.all_ready.p50),
                whole(side.all_gone.p50),
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
    use std::time::Duration;

    use super::*;

    fn round(times: &[u64], cpu: u64) -> Round {
        let pods = times.iter().enumerate().map(|(number, time)| {
            let ready = BTreeMap::from([("Ready".to_owned(), Duration::from_millis(*time))]);
            (format!("pod-{number}"), ready)
        });
        Round {
            pods: pods.collect(),
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
}
