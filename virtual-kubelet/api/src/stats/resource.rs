//! `/metrics/resource`: what metrics-server scrapes (`pkg/kubelet/metrics/collectors/resource_metrics.go`).

use super::exposition::{Exposition, Kind};
use super::{ContainerStats, PodStats, Summary, SwapStats};

/// `None` when the figures could not be had: the answer then says just that.
pub(crate) fn resource(summary: Option<&Summary>) -> String {
    let mut out = Exposition::default();
    if let Some(summary) = summary {
        containers(&mut out, summary);
        node(&mut out, summary);
        pods(&mut out, summary);
    }
    let failed = u64::from(summary.is_none());
    let help = "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise";
    out.family("resource_scrape_error", Kind::Gauge, help);
    out.whole(&[], Some(failed), None);
    let help = "[ALPHA] (Deprecated since 1.29.0) 1 if there was an error while getting container metrics, 0 otherwise";
    out.family("scrape_error", Kind::Gauge, help);
    out.whole(&[], Some(failed), None);
    out.finish()
}

/// A kubelet sorts them, which means nothing; virtual-kubelet's end-to-end suite takes the second for the pod.
fn labels<'a>(pod: &'a PodStats, container: &'a ContainerStats) -> [(&'static str, &'a str); 3] {
    [
        ("container", &container.name),
        ("pod", &pod.pod_ref.name),
        ("namespace", &pod.pod_ref.namespace),
    ]
}

fn pod_labels(pod: &PodStats) -> [(&'static str, &str); 2] {
    [("namespace", &pod.pod_ref.namespace), ("pod", &pod.pod_ref.name)]
}

fn each(summary: &Summary) -> impl Iterator<Item = (&PodStats, &ContainerStats)> {
    let pods = summary.pods.iter();
    pods.flat_map(|pod| pod.containers.iter().map(move |container| (pod, container)))
}

fn containers(out: &mut Exposition, summary: &Summary) {
    let help = "[STABLE] Cumulative cpu time consumed by the container in core-seconds";
    out.family("container_cpu_usage_seconds_total", Kind::Counter, help);
    for (pod, container) in each(summary) {
        if let Some(cpu) = &container.cpu {
            out.seconds(
                &labels(pod, container),
                cpu.usage_core_nano_seconds,
                Some(cpu.time),
            );
        }
    }
    let help = "[STABLE] Current working set of the container in bytes";
    out.family("container_memory_working_set_bytes", Kind::Gauge, help);
    for (pod, container) in each(summary) {
        if let Some(memory) = &container.memory {
            out.whole(
                &labels(pod, container),
                memory.working_set_bytes,
                Some(memory.time),
            );
        }
    }
    let help = "[STABLE] Start time of the container since unix epoch in seconds";
    out.family("container_start_time_seconds", Kind::Gauge, help);
    for (pod, container) in each(summary) {
        let since = container.start_time.as_nanosecond();
        let nanos = u64::try_from(since).ok().filter(|nanos| *nanos > 0);
        out.seconds(&labels(pod, container), nanos, None);
    }
    let help =
        "[ALPHA] Current amount of the container swap limit in bytes. Reported only on non-windows systems";
    out.family("container_swap_limit_bytes", Kind::Gauge, help);
    for (pod, container) in each(summary) {
        if let Some(swap) = &container.swap {
            out.whole(&labels(pod, container), limit(swap), Some(swap.time));
        }
    }
    let help =
        "[ALPHA] Current amount of the container swap usage in bytes. Reported only on non-windows systems";
    out.family("container_swap_usage_bytes", Kind::Gauge, help);
    for (pod, container) in each(summary) {
        if let Some(swap) = &container.swap {
            out.whole(&labels(pod, container), swap.swap_usage_bytes, Some(swap.time));
        }
    }
}

fn limit(swap: &SwapStats) -> Option<u64> {
    let available = swap.swap_available_bytes?;
    Some(available.saturating_add(swap.swap_usage_bytes.unwrap_or_default()))
}

fn node(out: &mut Exposition, summary: &Summary) {
    let help = "[STABLE] Cumulative cpu time consumed by the node in core-seconds";
    out.family("node_cpu_usage_seconds_total", Kind::Counter, help);
    if let Some(cpu) = &summary.node.cpu {
        out.seconds(&[], cpu.usage_core_nano_seconds, Some(cpu.time));
    }
    let help = "[STABLE] Current working set of the node in bytes";
    out.family("node_memory_working_set_bytes", Kind::Gauge, help);
    if let Some(memory) = &summary.node.memory {
        out.whole(&[], memory.working_set_bytes, Some(memory.time));
    }
    let help = "[ALPHA] Current swap usage of the node in bytes. Reported only on non-windows systems";
    out.family("node_swap_usage_bytes", Kind::Gauge, help);
    if let Some(swap) = &summary.node.swap {
        out.whole(&[], swap.swap_usage_bytes, Some(swap.time));
    }
}

fn pods(out: &mut Exposition, summary: &Summary) {
    let help = "[STABLE] Cumulative cpu time consumed by the pod in core-seconds";
    out.family("pod_cpu_usage_seconds_total", Kind::Counter, help);
    for pod in &summary.pods {
        if let Some(cpu) = &pod.cpu {
            out.seconds(&pod_labels(pod), cpu.usage_core_nano_seconds, Some(cpu.time));
        }
    }
    let help = "[STABLE] Current working set of the pod in bytes";
    out.family("pod_memory_working_set_bytes", Kind::Gauge, help);
    for pod in &summary.pods {
        if let Some(memory) = &pod.memory {
            out.whole(&pod_labels(pod), memory.working_set_bytes, Some(memory.time));
        }
    }
    let help = "[ALPHA] Current amount of the pod swap usage in bytes. Reported only on non-windows systems";
    out.family("pod_swap_usage_bytes", Kind::Gauge, help);
    for pod in &summary.pods {
        if let Some(swap) = &pod.swap {
            out.whole(&pod_labels(pod), swap.swap_usage_bytes, Some(swap.time));
        }
    }
}
