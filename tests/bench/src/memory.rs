//! Memory of one agent alone, idle and with pods, beside the real kubelet.
//!
//! The kubelet of the tests is the same file as the control plane, so it shares its program's pages with four processes and its PSS is smaller than
//! on a worker of its own: the ratio is to the kubelet's advantage.

use std::time::Duration;

use serde::Serialize;

use crate::BenchError;
use crate::pods::Cluster;
use crate::proc::{self, Memory};
use crate::report::{Machine, plain_table};
use crate::round;
use crate::side::{self, Side};
use crate::statistics::float;
use crate::watch::PodWatch;

/// Samples per state and the time between them: allocators and garbage collectors breathe.
const SAMPLES: usize = 10;
const INTERVAL: Duration = Duration::from_secs(2);
/// What starting took is given back, or is not, by then.
const SETTLE: Duration = Duration::from_secs(15);

/// A process whose memory is measured and the side whose pods it runs.
#[derive(Debug)]
pub struct Subject {
    pub process: lab::Process,
    pub side: Side,
}

/// One subject in both states, in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct SubjectReport {
    pub process: String,
    pub idle: Sample,
    pub with_pods: Sample,
}

/// The reading whose PSS is the median of a state's readings, and the highest PSS among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sample {
    pub median: Memory,
    pub highest_pss: u64,
}

#[derive(Debug, Serialize)]
pub struct MemoryReport {
    pub machine: Machine,
    pub pods: u32,
    /// Ours, then the kubelet's.
    pub subjects: Vec<SubjectReport>,
}

/// Measures each subject idle, then with `pods` pods, which are deleted again.
///
/// # Errors
/// [`BenchError::NotRunning`] when a subject has ended; those of [`round::run`].
pub async fn measure(
    cluster: &Cluster,
    subjects: &[Subject],
    pods: u32,
) -> Result<Vec<SubjectReport>, BenchError> {
    let mut watch = PodWatch::start(cluster.pods());
    let mut reports = Vec::new();
    for subject in subjects {
        let name = subject.process.name();
        eprintln!("{name}: idle");
        let idle = sample(subject).await?;
        eprintln!("{name}: with {pods} pods");
        let names = (0..pods)
            .map(|number| format!("{}-{number}", subject.side.name))
            .collect();
        let standing = round::raise(cluster, &mut watch, &subject.side, names).await?;
        let failed = standing.failed().len();
        if failed > 0 {
            let side = subject.side.name;
            return Err(BenchError::NotAllReady { side, failed });
        }
        let with_pods = sample(subject).await?;
        round::lower(cluster, &mut watch, &subject.side, standing).await?;
        reports.push(SubjectReport {
            process: name.to_owned(),
            idle,
            with_pods,
        });
    }
    Ok(reports)
}

async fn sample(subject: &Subject) -> Result<Sample, BenchError> {
    tokio::time::sleep(SETTLE).await;
    let pid = side::pid(&subject.process)?;
    let mut readings = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        readings.push(proc::memory(pid)?);
        tokio::time::sleep(INTERVAL).await;
    }
    Ok(summarise(readings).expect("SAMPLES is not zero"))
}

fn summarise(mut readings: Vec<Memory>) -> Option<Sample> {
    readings.sort_by_key(|memory| memory.pss);
    Some(Sample {
        median: *readings.get(readings.len() / 2)?,
        highest_pss: readings.last()?.pss,
    })
}

impl MemoryReport {
    pub fn print(&self) {
        let mut table = plain_table();
        table.set_header([
            "process",
            "state",
            "PSS",
            "highest",
            "private",
            "anonymous",
            "file",
            "text",
        ]);
        let with_pods = format!("{} pods", self.pods);
        for subject in &self.subjects {
            for (state, sample) in [("idle", &subject.idle), (with_pods.as_str(), &subject.with_pods)] {
                let Memory {
                    pss,
                    anonymous,
                    file,
                    text,
                    private,
                } = sample.median;
                let figures = [pss, sample.highest_pss, private, anonymous, file, text].map(megabytes);
                let cells = [subject.process.clone(), state.to_owned()];
                table.add_row(cells.into_iter().chain(figures));
            }
        }
        println!(
            "{table}\nMB = 10^6 bytes. Goals for the agent: PSS at most 12 MB idle and 16 MB with 20 pods."
        );
        if let [ours, theirs] = self.subjects.as_slice() {
            let ratio = |of: fn(&SubjectReport) -> &Sample| of(ours).median.ratio(&of(theirs).median);
            println!(
                "PSS over the kubelet's, which shares its program's pages with the control plane here: idle {:.3}, with {} pods {:.3}",
                ratio(|each| &each.idle),
                self.pods,
                ratio(|each| &each.with_pods)
            );
        }
    }
}

impl Memory {
    fn ratio(&self, other: &Self) -> f64 {
        as_float(self.pss) / as_float(other.pss)
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.2}", as_float(bytes) / 1e6)
}

fn as_float(bytes: u64) -> f64 {
    float(usize::try_from(bytes).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_a_whole_reading() {
        let reading = |pss, file| Memory {
            pss,
            file,
            ..Memory::default()
        };
        let sample = summarise(vec![reading(3, 30), reading(1, 10), reading(2, 20)]).unwrap();
        assert_eq!(sample.median, reading(2, 20));
        assert_eq!(sample.highest_pss, 3);
        assert_eq!(summarise(Vec::new()), None);
    }
}
