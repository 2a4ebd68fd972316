//! When the device lacks something, and what it then gives up.

use edge_agent_core::{ImagePolicy, Threshold, Thresholds};
use serde::Deserialize;

/// Zero turns a threshold off.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct EvictionSection {
    memory_available_mib: u64,
    disk_available_percent: u8,
    /// Of the disk with the images, which may be the same one.
    image_disk_available_percent: u8,
    /// Of either disk.
    inodes_free_percent: u8,
    processes_available_percent: u8,
    /// Above the first, images that nobody uses go until the second is reached; 100 means never.
    image_gc_high_percent: u8,
    image_gc_low_percent: u8,
}

impl Default for EvictionSection {
    /// The kubelet's own (`DefaultEvictionHard`, `imageGCHighThresholdPercent`, `imageGCLowThresholdPercent`).
    fn default() -> Self {
        Self {
            memory_available_mib: 100,
            disk_available_percent: 10,
            image_disk_available_percent: 15,
            inodes_free_percent: 5,
            processes_available_percent: 0,
            image_gc_high_percent: 85,
            image_gc_low_percent: 80,
        }
    }
}

/// What the device gives up, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvictionOptions {
    pub thresholds: Thresholds,
    pub image_policy: ImagePolicy,
}

impl EvictionSection {
    pub(super) fn check(self) -> Result<EvictionOptions, (&'static str, String)> {
        let Self {
            memory_available_mib,
            disk_available_percent,
            image_disk_available_percent,
            inodes_free_percent,
            processes_available_percent,
            image_gc_high_percent,
            image_gc_low_percent,
        } = self;
        for (field, percent) in [
            ("eviction.disk_available_percent", disk_available_percent),
            (
                "eviction.image_disk_available_percent",
                image_disk_available_percent,
            ),
            ("eviction.inodes_free_percent", inodes_free_percent),
            (
                "eviction.processes_available_percent",
                processes_available_percent,
            ),
            ("eviction.image_gc_high_percent", image_gc_high_percent),
        ] {
            if percent > 100 {
                return Err((field, "must be 0 to 100".to_owned()));
            }
        }
        if image_gc_low_percent > image_gc_high_percent {
            let problem = format!("must not be above image_gc_high_percent, {image_gc_high_percent}");
            return Err(("eviction.image_gc_low_percent", problem));
        }
        let memory = memory_available_mib.checked_mul(1 << 20).ok_or_else(|| {
            (
                "eviction.memory_available_mib",
                "is more than there can be".to_owned(),
            )
        })?;
        let processes = (processes_available_percent > 0).then_some(processes_available_percent);
        Ok(EvictionOptions {
            thresholds: Thresholds {
                memory: Threshold::Least(memory),
                node_disk: Threshold::Percent(disk_available_percent),
                node_inodes: Threshold::Percent(inodes_free_percent),
                image_disk: Threshold::Percent(image_disk_available_percent),
                image_inodes: Threshold::Percent(inodes_free_percent),
                processes: processes.map(Threshold::Percent),
            },
            image_policy: ImagePolicy {
                high_percent: image_gc_high_percent,
                low_percent: image_gc_low_percent,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<EvictionOptions, &'static str> {
        let section: EvictionSection = toml::from_str(text).unwrap();
        section.check().map_err(|(field, _)| field)
    }

    #[test]
    fn thresholds_are_the_kubelets_unless_told_otherwise() {
        let kubelets = EvictionOptions {
            thresholds: Thresholds::default(),
            image_policy: ImagePolicy::default(),
        };
        assert_eq!(check(""), Ok(kubelets));
        let off = "memory_available_mib = 0\ndisk_available_percent = 0\nimage_disk_available_percent = 0\n\
                   inodes_free_percent = 0\nprocesses_available_percent = 7";
        let thresholds = Thresholds {
            memory: Threshold::Least(0),
            node_disk: Threshold::Percent(0),
            node_inodes: Threshold::Percent(0),
            image_disk: Threshold::Percent(0),
            image_inodes: Threshold::Percent(0),
            processes: Some(Threshold::Percent(7)),
        };
        assert_eq!(check(off).map(|options| options.thresholds), Ok(thresholds));
    }

    #[test]
    fn impossible_thresholds_are_refused_by_name() {
        for (text, field) in [
            ("disk_available_percent = 101", "eviction.disk_available_percent"),
            (
                "image_disk_available_percent = 101",
                "eviction.image_disk_available_percent",
            ),
            (
                "processes_available_percent = 101",
                "eviction.processes_available_percent",
            ),
            ("image_gc_low_percent = 90", "eviction.image_gc_low_percent"),
            (
                "memory_available_mib = 9223372036854775807",
                "eviction.memory_available_mib",
            ),
        ] {
            assert_eq!(check(text), Err(field));
        }
    }
}
