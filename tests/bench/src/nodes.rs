//! What device nodes cost: one `outrigger-kubelet` with more and more of them, by devices that are simulated.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, ListParams};
use serde::Serialize;
use site::{DeviceNodes, Programs, Site, SiteOptions};
use tokio::time::{Instant, sleep, sleep_until};

use crate::BenchError;
use crate::pods::Cluster;
use crate::proc;
use crate::report::{Machine, plain_table};
use crate::side;
use crate::simulated::{self, Habitat, Simulated};
use crate::stage::blocking;
use crate::statistics::float;

const ENROLMENT_LIMIT: Duration = Duration::from_secs(30);
const READY_LIMIT: Duration = Duration::from_mins(2);
/// What a device's coming costs is over by then.
const SETTLE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(500);
/// The label that the condition's tag gives.
const LABEL: &str = "tag.outrigger.io/node=true";
/// The flow that the API server counts requests of service accounts in; no other but ours is outside `kube-system`.
const FLOW: &str = "flow_schema=\"service-accounts\"";
const COUNTER: &str = "apiserver_flowcontrol_dispatched_requests_total{";
/// What a kubelet per node sends by its defaults (`pkg/kubelet/apis/config/v1beta1/defaults.go`): a lease every 10 s and a status every 5 min.
const KUBELET_CALLS: f64 = 6.2;

/// What to measure.
#[derive(Clone, Debug)]
pub struct NodesPlan {
    /// How many device nodes there are, rising.
    pub counts: Vec<usize>,
    /// How long each number is watched.
    pub window: Duration,
}

/// One number of nodes, at rest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AtRest {
    pub nodes: usize,
    pub kubelet: Load,
    pub hub: Load,
    /// As the API server counted them, watches once when they begin.
    pub calls_per_minute: f64,
}

/// Of one process.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Load {
    /// Milliseconds of processor time, kernel time included.
    pub cpu_ms_per_minute: f64,
    pub pss_bytes: u64,
}

#[derive(Debug, Serialize)]
pub struct NodesReport {
    pub machine: Machine,
    pub window_s: f64,
    pub at_rest: Vec<AtRest>,
}

/// Adds devices as the plan says and looks at each number of them.
///
/// # Errors
/// What did not come up, or ended.
pub async fn measure(lab: PathBuf, plan: &NodesPlan) -> anyhow::Result<NodesReport> {
    let machine = Machine::now()?;
    eprintln!("starting Outrigger without a device");
    let most = plan.counts.iter().copied().max().unwrap_or(1);
    let (site, habitat) = blocking(move || start(lab, most)).await?;
    let client = Cluster::connect(site.cluster().kubeconfig()).await?.client();
    let mut devices = Simulated::default();
    let mut at_rest: Vec<AtRest> = Vec::new();
    for count in plan.counts.iter().copied() {
        let known = at_rest.last().map_or(0, |last| last.nodes);
        let begun = Instant::now();
        devices
            .add(&habitat, &simulated::names(known, count.saturating_sub(known)))
            .await?;
        tokio::select! {
            ready = until_ready(&client, count) => ready?,
            error = devices.ended() => return Err(error),
        }
        eprintln!("{count} nodes are Ready after {:.1?}", begun.elapsed());
        sleep(SETTLE).await;
        tokio::select! {
            seen = watch(&site, &client, count, plan.window) => at_rest.push(seen?),
            error = devices.ended() => return Err(error),
        }
    }
    Ok(NodesReport {
        machine,
        window_s: plan.window.as_secs_f64(),
        at_rest,
    })
}

fn start(lab: PathBuf, devices: usize) -> Result<(Site, Habitat), BenchError> {
    let site = Site::start(SiteOptions {
        device_nodes: DeviceNodes::Tagged,
        programs: Programs::default(),
        ..SiteOptions::in_directory(lab)
    })?;
    let directory = simulated::directory(site.lab().directory());
    fs::create_dir_all(&directory).map_err(BenchError::file(&directory))?;
    let cli = site.hub().cli(site.programs())?;
    let uses = devices.to_string();
    let create = ["enrolment-token", "create", "--uses", &uses, "--tag", "node=true"];
    let printed = cli.args(create).run(ENROLMENT_LIMIT)?.stdout;
    let token = printed.lines().last().unwrap_or_default();
    let token_file = directory.join("token");
    fs::write(&token_file, token).map_err(BenchError::file(&token_file))?;
    let habitat = Habitat {
        directory,
        endpoint: site.hub().device_port.to_string(),
        token_file,
    };
    Ok((site, habitat))
}

async fn until_ready(client: &Client, count: usize) -> Result<(), BenchError> {
    let deadline = Instant::now() + READY_LIMIT;
    loop {
        let ready = ready_nodes(client).await?;
        if ready >= count {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(BenchError::Deadline {
                wanted: "Ready",
                limit: READY_LIMIT,
                missing: format!("{} of {count} nodes", count - ready),
                state: String::new(),
            });
        }
        sleep(PAUSE).await;
    }
}

async fn ready_nodes(client: &Client) -> Result<usize, BenchError> {
    let nodes: Api<Node> = Api::all(client.clone());
    let list = nodes.list(&ListParams::default().labels(LABEL)).await;
    let list = list.map_err(BenchError::cluster("the nodes cannot be listed"))?;
    let is_ready = |node: &&Node| {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    Ok(list.items.iter().filter(is_ready).count())
}

async fn watch(site: &Site, client: &Client, nodes: usize, window: Duration) -> Result<AtRest, BenchError> {
    let pids = [
        side::pid(&site.kubelet_process())?,
        side::pid(&site.hub_process())?,
    ];
    let cpu = || Ok::<_, BenchError>([proc::cpu_time(pids[0])?, proc::cpu_time(pids[1])?]);
    let begun = Instant::now();
    let (calls, before) = (calls(client).await?, cpu()?);
    sleep_until(begun + window).await;
    let (after, calls) = (cpu()?, self::calls(client).await? - calls);
    let per_minute = 60.0 / begun.elapsed().as_secs_f64();
    let load = |which: usize| {
        Ok::<_, BenchError>(Load {
            cpu_ms_per_minute: after[which].saturating_sub(before[which]).as_secs_f64() * 1000.0 * per_minute,
            pss_bytes: proc::memory(pids[which])?.pss,
        })
    };
    Ok(AtRest {
        nodes,
        kubelet: load(0)?,
        hub: load(1)?,
        calls_per_minute: calls * per_minute,
    })
}

/// How many requests of ours the API server has let through since it began.
async fn calls(client: &Client) -> Result<f64, BenchError> {
    let request = http::Request::get("/metrics").body(Vec::new());
    let request = request.expect("the literal above is a path");
    let metrics = client.request_text(request).await;
    Ok(sum(
        &metrics.map_err(BenchError::cluster("the API server's metrics"))?
    ))
}

/// Over all priority levels of the flow.
fn sum(metrics: &str) -> f64 {
    let ours = metrics
        .lines()
        .filter(|line| line.starts_with(COUNTER) && line.contains(FLOW));
    ours.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

impl NodesReport {
    pub fn print(&self) {
        let mut table = plain_table();
        table.set_header([
            "nodes",
            "API calls/min",
            "a kubelet each",
            "kubelet CPU ms/min",
            "kubelet PSS MB",
            "hub CPU ms/min",
            "hub PSS MB",
        ]);
        let megabytes = |bytes: u64| float(usize::try_from(bytes).unwrap_or(usize::MAX)) / 1e6;
        for each in &self.at_rest {
            table.add_row([
                each.nodes.to_string(),
                format!("{:.1}", each.calls_per_minute),
                format!("{:.1}", KUBELET_CALLS * float(each.nodes)),
                format!("{:.0}", each.kubelet.cpu_ms_per_minute),
                format!("{:.1}", megabytes(each.kubelet.pss_bytes)),
                format!("{:.0}", each.hub.cpu_ms_per_minute),
                format!("{:.1}", megabytes(each.hub.pss_bytes)),
            ]);
        }
        println!("At rest, each number for {:.0} s:\n{table}", self.window_s);
        if let (Some(first), Some(last)) = (self.at_rest.first(), self.at_rest.last())
            && last.nodes > first.nodes
        {
            let per_node =
                |figure: fn(&AtRest) -> f64| (figure(last) - figure(first)) / float(last.nodes - first.nodes);
            println!(
                "Each further node, from {} to {}: {:.2} API calls/min, {:.1} ms of CPU/min and {:.0} kB in outrigger-kubelet, \
                 {:.1} ms of CPU/min and {:.0} kB in the hub.",
                first.nodes,
                last.nodes,
                per_node(|at| at.calls_per_minute),
                per_node(|at| at.kubelet.cpu_ms_per_minute),
                per_node(|at| kilobytes(at.kubelet)),
                per_node(|at| at.hub.cpu_ms_per_minute),
                per_node(|at| kilobytes(at.hub)),
            );
        }
    }
}

fn kilobytes(load: Load) -> f64 {
    float(usize::try_from(load.pss_bytes).unwrap_or(usize::MAX)) / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_flow_of_service_accounts_counts() {
        let metrics = "# HELP apiserver_flowcontrol_dispatched_requests_total [BETA] Number\n\
            apiserver_flowcontrol_dispatched_requests_total{flow_schema=\"service-accounts\",priority_level=\"workload-low\"} 41\n\
            apiserver_flowcontrol_dispatched_requests_total{flow_schema=\"kube-system-service-accounts\",priority_level=\"workload-high\"} 7\n\
            apiserver_flowcontrol_rejected_requests_total{flow_schema=\"service-accounts\",priority_level=\"workload-low\"} 3\n";
        assert!((sum(metrics) - 41.0).abs() < 1e-9);
    }
}
