//! `outrigger device top`: what devices use, as `kubectl top` shows it.

use std::collections::BTreeMap;
use std::time::Duration;

use edge_protocol::v1::{CpuStats, MemoryStats};
use edge_protocol::{DeviceId, PodUid};
use iot_hub_api::v1::{Device, DeviceStats};
use iot_hub_client::{ClientError, HubClient};
use jiff::Timestamp;
use serde::Serialize;

use crate::output::{self, Format, Row, age};

/// A sample that is older than this is asked for anew.
const YOUNG: Duration = Duration::from_secs(15);

/// One line: a device, a workload of it, or a container of that.
#[derive(Debug, Serialize)]
pub struct Usage {
    device: DeviceId,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<String>,
    cpu_milli: Option<u64>,
    memory_bytes: Option<u64>,
    /// Of what the device has, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_percent: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_percent: Option<u64>,
    /// When it came, in milliseconds since the Unix epoch.
    received_ms: i64,
}

impl Usage {
    fn of(
        device: &DeviceId,
        stats: &DeviceStats,
        cpu: Option<CpuStats>,
        memory: Option<MemoryStats>,
    ) -> Self {
        Self {
            device: device.clone(),
            workload: None,
            container: None,
            // As `kubectl top`: a part of a thousandth counts as one.
            cpu_milli: cpu
                .and_then(|cpu| cpu.rate_nanocores)
                .map(|rate| rate.div_ceil(1_000_000)),
            memory_bytes: memory.and_then(|memory| memory.working_set_bytes),
            cpu_percent: None,
            memory_percent: None,
            received_ms: stats.received_ms,
        }
    }
}

impl Row for Usage {
    const COLUMNS: (&'static [&'static str], &'static [&'static str]) = (
        &[
            "DEVICE",
            "WORKLOAD",
            "CONTAINER",
            "CPU(cores)",
            "CPU(%)",
            "MEMORY(bytes)",
            "MEMORY(%)",
            "AGE",
        ],
        &[],
    );

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let percent = |percent: Option<u64>| or_dash(percent.map(|percent| format!("{percent}%")));
        vec![
            self.device.to_string(),
            or_dash(self.workload.clone()),
            or_dash(self.container.clone()),
            or_dash(self.cpu_milli.map(|milli| format!("{milli}m"))),
            percent(self.cpu_percent),
            or_dash(self.memory_bytes.map(|bytes| format!("{}Mi", bytes >> 20))),
            percent(self.memory_percent),
            age(Some(self.received_ms), now),
        ]
    }
}

/// Shows all connected devices, or one with its workloads.
pub async fn run(
    hub: &HubClient,
    device: Option<&DeviceId>,
    containers: bool,
    format: Format,
) -> anyhow::Result<()> {
    let rows = match device {
        Some(id) => of_device(hub, id, containers).await?,
        None => of_all(hub).await?,
    };
    output::print(format, "figures", &rows)
}

/// One after the other would take as long as all of them together; a device that says nothing is named and passed over.
async fn of_all(hub: &HubClient) -> anyhow::Result<Vec<Usage>> {
    let devices = hub.devices().await?.items;
    let mut asked = tokio::task::JoinSet::new();
    for device in devices.into_iter().filter(|device| device.connected) {
        let hub = hub.clone();
        asked.spawn(async move {
            let stats = hub.device_stats(&device.id, YOUNG).await;
            (device, stats)
        });
    }
    let mut rows = BTreeMap::new();
    for (device, stats) in asked.join_all().await {
        match stats {
            Ok(stats) => drop(rows.insert(device.id.clone(), whole(&device, &stats))),
            Err(ClientError::Refused { problem, .. }) => eprintln!("{}: {}", device.id, problem.detail),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(rows.into_values().collect())
}

async fn of_device(hub: &HubClient, id: &DeviceId, containers: bool) -> anyhow::Result<Vec<Usage>> {
    let stats = hub.device_stats(id, YOUNG).await?;
    let names: BTreeMap<PodUid, String> = hub
        .device_workloads(id)
        .await?
        .items
        .into_iter()
        .filter_map(|held| Some((held.uid, format!("{}/{}", held.namespace?, held.name?))))
        .collect();
    let mut rows = vec![whole(&hub.device(id).await?, &stats)];
    for workload in &stats.stats.workloads {
        let name = names.get(&workload.uid);
        let name = Some(name.cloned().unwrap_or_else(|| workload.uid.to_string()));
        rows.push(Usage {
            workload: name.clone(),
            ..Usage::of(id, &stats, workload.cpu, workload.memory)
        });
        for container in workload.containers.iter().filter(|_| containers) {
            rows.push(Usage {
                workload: name.clone(),
                container: Some(container.name.clone()),
                ..Usage::of(id, &stats, container.cpu, container.memory)
            });
        }
    }
    Ok(rows)
}

fn whole(device: &Device, stats: &DeviceStats) -> Usage {
    let node = stats.stats.node.as_deref().cloned().unwrap_or_default();
    let usage = Usage::of(&device.id, stats, node.cpu, node.memory);
    Usage {
        cpu_percent: percent(usage.cpu_milli, device.facts.cpu_milli),
        memory_percent: percent(usage.memory_bytes, device.facts.memory_bytes),
        ..usage
    }
}

fn percent(used: Option<u64>, of: u64) -> Option<u64> {
    let share = u128::from(used?) * 100 / u128::from((of > 0).then_some(of)?);
    u64::try_from(share).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_look_like_kubectls() {
        let device: DeviceId = "press-7".parse().unwrap();
        let stats: DeviceStats = serde_json::from_value(serde_json::json!({
            "age_ms": 3_000, "received_ms": 1_000_000,
            "stats": {"at": {"boot_id": "00000000-0000-0000-0000-000000000001", "mono_ms": 1, "wall_ms": 1, "wall_trusted": true}},
        }))
        .unwrap();
        let cpu = CpuStats {
            rate_nanocores: Some(250_000_001),
            ..CpuStats::default()
        };
        let memory = MemoryStats {
            working_set_bytes: Some(300 << 20),
            ..MemoryStats::default()
        };
        let cells = |usage: &Usage| {
            usage
                .cells(Timestamp::from_millisecond(1_003_000).unwrap())
                .join(" ")
        };
        let mut usage = Usage::of(&device, &stats, Some(cpu), Some(memory));
        usage.cpu_percent = percent(usage.cpu_milli, 4_000);
        usage.memory_percent = percent(usage.memory_bytes, 1 << 30);
        assert_eq!(cells(&usage), "press-7 - - 251m 6% 300Mi 29% 3s");
        let nothing = Usage::of(&device, &stats, None, None);
        assert_eq!(cells(&nothing), "press-7 - - - - - - 3s");
        assert_eq!(percent(Some(1), 0), None);
    }
}
