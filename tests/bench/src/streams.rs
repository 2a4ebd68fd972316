//! exec, logs and port-forward of two sides in alternation, by one client through the API server.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, LogParams, PostParams};
use serde::Serialize;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use crate::BenchError;
use crate::pods::Cluster;
use crate::report::{Machine, plain_table};
use crate::side::Side;
use crate::statistics::{Summary, float};

const READY_LIMIT: Duration = Duration::from_mins(2);
const PAUSE: Duration = Duration::from_millis(250);
/// For one stream, whatever it carries.
const LIMIT: Duration = Duration::from_mins(3);
/// First streams pay for connections and tunnels; they are not counted.
const WARM_UP: u32 = 3;
const DOWNLOAD: usize = 64 << 20;
const DOWNLOAD_PORT: u16 = 9000;
const LINES_PER_SECOND: u64 = 20_000;
/// What the containers write: lines with their numbers, so many each tenth of a second; and some each second.
const FAST: &str = "fast";
const SLOW: &str = "slow";

/// What to measure.
#[derive(Clone, Debug)]
pub struct StreamsPlan {
    /// Streams of each kind per side.
    pub rounds: u32,
    /// How long the fast log is written.
    pub seconds: u64,
    /// Logs that are followed at once.
    pub followers: usize,
}

#[derive(Debug, Serialize)]
pub struct StreamsReport {
    pub machine: Machine,
    /// By side.
    pub sides: BTreeMap<&'static str, StreamsOfSide>,
}

/// One side's figures. Times are milliseconds.
#[derive(Debug, Serialize)]
pub struct StreamsOfSide {
    /// From asking for `true` to knowing its exit code.
    pub exec: Option<Summary>,
    /// From asking for the last line of a log to having its first byte.
    pub log: Option<Summary>,
    /// 64 MiB through a forwarded port, 10^6 bytes per second.
    pub download_mb_per_s: Vec<f64>,
    pub fast_log: FastLog,
    pub followers: Followers,
}

/// A log that is followed while it is written.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct FastLog {
    pub lines: u64,
    /// Written, and not told.
    pub lost: u64,
    pub lines_per_s: f64,
}

/// Many logs that are followed at once.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Followers {
    pub count: usize,
    /// From asking to the first line of each.
    pub first_line: Option<Summary>,
    /// Those that ended early. A kubelet has one inotify instance for each, of which a user has 128 by default.
    pub failed: usize,
    /// Gaps in what was told to the others.
    pub lost: u64,
    /// CPU time of the side's processes meanwhile, of one processor.
    pub cpu: f64,
}

#[derive(Default)]
struct Samples {
    exec: Vec<Duration>,
    log: Vec<Duration>,
    downloads: Vec<f64>,
}

/// Measures all sides in turn and removes its pods. With them stand the pods of the plan: `<side>-streams`.
///
/// # Errors
/// [`BenchError::Cluster`], and [`BenchError::Stream`] of the first stream that fails: a figure of failing streams says nothing.
pub async fn measure(
    cluster: &Cluster,
    sides: &[Side],
    image: &str,
    plan: &StreamsPlan,
) -> Result<BTreeMap<&'static str, StreamsOfSide>, BenchError> {
    let mut raised = Vec::new();
    for side in sides {
        let name = format!("{}-streams", side.name);
        let pod = serde_json::from_value(pod(&name, side, image, plan.seconds)).expect("it is a pod");
        cluster
            .pods()
            .create(&PostParams::default(), &pod)
            .await
            .map_err(BenchError::cluster(format!("pod {name} cannot be created")))?;
        raised.push((side, name));
    }
    for (_, name) in &raised {
        answers(cluster, name).await?;
    }
    let mut samples: BTreeMap<&'static str, Samples> = BTreeMap::new();
    for turn in 0..plan.rounds + WARM_UP {
        for (side, name) in &raised {
            let subject = Subject::new(cluster, name);
            let (exec, log) = (subject.exec().await?, subject.first_byte().await?);
            if turn >= WARM_UP {
                let of_side = samples.entry(side.name).or_default();
                of_side.exec.push(exec);
                of_side.log.push(log);
            }
        }
    }
    eprintln!("exec and logs are measured; 64 MiB through a port");
    for _ in 0..5 {
        for (side, name) in &raised {
            let rate = Subject::new(cluster, name).download().await?;
            samples.entry(side.name).or_default().downloads.push(rate);
        }
    }
    let mut reports = BTreeMap::new();
    for (side, name) in &raised {
        let subject = Subject::new(cluster, name);
        eprintln!("{}: {LINES_PER_SECOND} lines a second", side.name);
        let fast_log = subject.fast_log(plan.seconds).await?;
        eprintln!("{}: {} followers", side.name, plan.followers);
        let followers = subject.followers(side, plan.followers).await?;
        let samples = samples.remove(side.name).unwrap_or_default();
        let report = StreamsOfSide {
            exec: Summary::of(samples.exec),
            log: Summary::of(samples.log),
            download_mb_per_s: samples.downloads,
            fast_log,
            followers,
        };
        reports.insert(side.name, report);
    }
    for (_, name) in &raised {
        cluster.delete(name).await?;
    }
    Ok(reports)
}

/// Returns when the pod runs and its node answers: one may still wait for its certificate.
async fn answers(cluster: &Cluster, name: &str) -> Result<(), BenchError> {
    let begun = Instant::now();
    loop {
        match Subject::new(cluster, name).exec().await {
            Ok(_) => return Ok(()),
            Err(error) if begun.elapsed() > READY_LIMIT => return Err(error),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// One that waits to be told to write fast, one that writes slowly, one that gives out zeros.
fn pod(name: &str, side: &Side, image: &str, seconds: u64) -> serde_json::Value {
    let step = LINES_PER_SECOND / 10;
    let steps = seconds * 10;
    let fast = format!(
        "trap 'exit 0' TERM; until [ -e /tmp/go ]; do sleep 0.1; done; \
         t=0; while [ $t -lt {steps} ]; do seq $((t*{step})) $((t*{step}+{step}-1)); t=$((t+1)); sleep 0.09; done; \
         while true; do sleep 1; done"
    );
    let slow = "trap 'exit 0' TERM; i=0; while true; do echo $i; i=$((i+1)); sleep 0.1; done";
    let zeros = format!("exec nc -ll -p {DOWNLOAD_PORT} -e head -c {DOWNLOAD} /dev/zero");
    let container =
        |name: &str, script: &str| json!({"name": name, "image": image, "command": ["sh", "-c", script]});
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": side.annotations},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": side.node},
            "tolerations": [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}],
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "containers": [container(FAST, &fast), container(SLOW, slow), container("zeros", &zeros)],
        },
    })
}

/// A pod of one side.
struct Subject {
    pods: Api<Pod>,
    name: String,
}

impl Subject {
    fn new(cluster: &Cluster, name: &str) -> Self {
        Self {
            pods: cluster.pods(),
            name: name.to_owned(),
        }
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(String) -> BenchError {
        let pod = self.name.clone();
        move |why| BenchError::Stream { what, pod, why }
    }

    async fn run(&self, container: &str, command: &[&str]) -> Result<(), String> {
        let parameters = AttachParams::default().container(container).stderr(false);
        let text = |error: kube::Error| error.to_string();
        let mut process = self
            .pods
            .exec(&self.name, command.iter().copied(), &parameters)
            .await
            .map_err(text)?;
        let status = process.take_status().ok_or("no status")?;
        let status = status.await.ok_or("the command has no end")?;
        process.join().await.map_err(|error| error.to_string())?;
        match status.status.as_deref() {
            Some("Success") => Ok(()),
            _ => Err(status.message.unwrap_or_default()),
        }
    }

    async fn exec(&self) -> Result<Duration, BenchError> {
        let begun = Instant::now();
        let run = within(self.run(SLOW, &["true"])).await;
        run.map_err(self.failed("exec"))?;
        Ok(begun.elapsed())
    }

    /// The log of a container, open.
    async fn log(
        &self,
        container: &str,
        follow: bool,
        tail: Option<i64>,
    ) -> Result<impl AsyncRead + use<>, String> {
        let parameters = LogParams {
            container: Some(container.to_owned()),
            follow,
            tail_lines: tail,
            ..LogParams::default()
        };
        let opened = self.pods.log_stream(&self.name, &parameters).await;
        opened.map_err(|error| error.to_string())
    }

    async fn first_byte(&self) -> Result<Duration, BenchError> {
        let begun = Instant::now();
        let read = within(async {
            let mut log = std::pin::pin!(self.log(SLOW, false, Some(1)).await?);
            let mut byte = [0];
            log.read_exact(&mut byte).await.map_err(|error| error.to_string())
        });
        read.await.map_err(self.failed("logs"))?;
        Ok(begun.elapsed())
    }

    /// 10^6 bytes per second.
    async fn download(&self) -> Result<f64, BenchError> {
        let begun = Instant::now();
        let read = within(async {
            let text = |error: kube::Error| error.to_string();
            let mut forward = self
                .pods
                .portforward(&self.name, &[DOWNLOAD_PORT])
                .await
                .map_err(text)?;
            let mut stream = forward.take_stream(DOWNLOAD_PORT).ok_or("no stream")?;
            let (mut chunk, mut total) = (vec![0; 64 << 10], 0);
            while total < DOWNLOAD {
                match stream.read(&mut chunk).await.map_err(|error| error.to_string())? {
                    0 => return Err(format!("it ended after {total} bytes")),
                    length => total += length,
                }
            }
            stream.shutdown().await.map_err(|error| error.to_string())?;
            drop(stream);
            forward.abort();
            Ok(total)
        });
        let bytes = read.await.map_err(self.failed("port-forward"))?;
        Ok(float(bytes) / 1e6 / begun.elapsed().as_secs_f64())
    }

    async fn fast_log(&self, seconds: u64) -> Result<FastLog, BenchError> {
        let wanted = seconds * LINES_PER_SECOND;
        let read = within(async {
            let log = self.log(FAST, true, None).await?;
            self.run(FAST, &["touch", "/tmp/go"]).await?;
            let mut lines = std::pin::pin!(futures_util::io::BufReader::new(log));
            let (mut line, mut told) = (String::new(), FastLog::default());
            let (mut expected, mut begun) = (0, Instant::now());
            while expected < wanted {
                line.clear();
                let length = lines
                    .read_line(&mut line)
                    .await
                    .map_err(|error| error.to_string())?;
                let number = number(&line).filter(|_| length > 0);
                let number = number.ok_or_else(|| format!("{line:?} after line {expected}"))?;
                if told.lines == 0 {
                    begun = Instant::now();
                }
                told.lines += 1;
                told.lost += number.saturating_sub(expected);
                expected = number + 1;
            }
            let lines = float(usize::try_from(told.lines).unwrap_or(usize::MAX));
            told.lines_per_s = lines / begun.elapsed().as_secs_f64();
            Ok(told)
        });
        read.await.map_err(self.failed("logs -f"))
    }

    /// Follows the slow log so many times at once, until each has told 50 lines.
    async fn followers(&self, side: &Side, count: usize) -> Result<Followers, BenchError> {
        const LINES: u64 = 50;
        let (cpu, begun) = (side.cpu_times()?, Instant::now());
        let mut following = JoinSet::new();
        for _ in 0..count {
            let subject = Self {
                pods: self.pods.clone(),
                name: self.name.clone(),
            };
            following.spawn(within(async move {
                let begun = Instant::now();
                let log = subject.log(SLOW, true, Some(1)).await?;
                let mut lines = std::pin::pin!(futures_util::io::BufReader::new(log));
                let (mut line, mut last, mut lost, mut first) = (String::new(), None, 0, Duration::ZERO);
                for told in 0..LINES {
                    line.clear();
                    lines
                        .read_line(&mut line)
                        .await
                        .map_err(|error| error.to_string())?;
                    let number = number(&line).ok_or_else(|| format!("{line:?} after {last:?}"))?;
                    if told == 0 {
                        first = begun.elapsed();
                    }
                    lost += last.map_or(0, |last: u64| number.saturating_sub(last + 1));
                    last = Some(number);
                }
                Ok((first, lost))
            }));
        }
        let (mut first_lines, mut failed, mut lost) = (Vec::new(), 0, 0);
        while let Some(followed) = following.join_next().await {
            match followed.map_err(|error| error.to_string()).flatten() {
                Ok((first, gaps)) => {
                    first_lines.push(first);
                    lost += gaps;
                }
                Err(why) => {
                    if failed == 0 {
                        eprintln!("{}: a follower failed: {why}", side.name);
                    }
                    failed += 1;
                }
            }
        }
        let used: Duration = side.cpu_times_since(&cpu)?.values().sum();
        Ok(Followers {
            count,
            first_line: Summary::of(first_lines),
            failed,
            lost,
            cpu: used.as_secs_f64() / begun.elapsed().as_secs_f64(),
        })
    }
}

fn number(line: &str) -> Option<u64> {
    line.trim_end().parse().ok()
}

async fn within<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(LIMIT, work)
        .await
        .unwrap_or_else(|_| Err(format!("not within {LIMIT:?}")))
}

impl StreamsReport {
    pub fn print(&self) {
        let mut table = plain_table();
        table.set_header(["side", "what", "p50", "p90", "p99", "max"]);
        for (side, figures) in &self.sides {
            let samples = [
                ("exec true, ms", &figures.exec),
                ("log, first byte, ms", &figures.log),
                ("followers, first line, ms", &figures.followers.first_line),
            ];
            for (what, summary) in samples {
                let cells = summary.map_or_else(Vec::new, |each| {
                    [each.p50, each.p90, each.p99, each.max]
                        .map(|figure| format!("{figure:.1}"))
                        .to_vec()
                });
                table.add_row([(*side).to_owned(), what.to_owned()].into_iter().chain(cells));
            }
        }
        println!("{table}");
        for (side, figures) in &self.sides {
            let FastLog {
                lines,
                lost,
                lines_per_s,
            } = figures.fast_log;
            let Followers {
                count,
                failed,
                lost: gaps,
                cpu,
                ..
            } = figures.followers;
            println!(
                "{side}: a port's download {:.0} MB/s (median of {}); a followed log {lines_per_s:.0} lines/s, {lost} of {lines} lost; \
                 {count} followers, of which {failed} failed, {gaps} lines lost, {cpu:.2} processors",
                median(&figures.download_mb_per_s),
                figures.download_mb_per_s.len(),
            );
        }
        if let (Some(ours), Some(theirs)) = (self.sides.get("outrigger"), self.sides.get("kubelet")) {
            let ratio = |of: fn(&StreamsOfSide) -> f64| of(ours) / of(theirs);
            let p50 = |summary: &Option<Summary>| summary.map_or(f64::NAN, |each| each.p50);
            println!(
                "ours over the kubelet's (goals): exec {:.2} (1.5), log {:.2} (1.5), download {:.2} (at least 0.5)",
                p50(&ours.exec) / p50(&theirs.exec),
                p50(&ours.log) / p50(&theirs.log),
                ratio(|side| median(&side.download_mb_per_s)),
            );
        }
    }
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
