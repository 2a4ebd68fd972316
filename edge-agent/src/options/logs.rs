//! How large logs become, and how long they stay.

use std::num::NonZeroU64;
use std::time::Duration;

use serde::Deserialize;

use crate::runtime::logs::{LogCaps, Rotation};

/// The first two by the kubelet's names and defaults (`KubeletConfiguration`).
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct LogSection {
    /// 0 means that no log is ever rotated.
    container_log_max_size_mib: u64,
    container_log_max_files: u32,
    /// Of so many pods logs stay when they are gone.
    keep_removed_pods: usize,
    /// For so long at most; absent means as long as there are no more of them.
    keep_removed_hours: Option<u64>,
    stream_kib_per_second: Option<NonZeroU64>,
    stream_max_mib: Option<NonZeroU64>,
}

impl Default for LogSection {
    fn default() -> Self {
        Self {
            container_log_max_size_mib: 10,
            container_log_max_files: 5,
            keep_removed_pods: 0,
            keep_removed_hours: None,
            stream_kib_per_second: None,
            stream_max_mib: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// Absent means that no log is ever rotated.
    pub rotation: Option<Rotation>,
    pub keep: KeepLogs,
    pub caps: LogCaps,
}

/// Which logs stay when their pods are gone.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct KeepLogs {
    pub pods: usize,
    pub at_most: Option<Duration>,
}

impl Default for LogOptions {
    fn default() -> Self {
        let section = LogSection::default();
        Self {
            rotation: mib(section.container_log_max_size_mib).map(|max_bytes| Rotation {
                max_bytes,
                max_files: section.container_log_max_files,
            }),
            keep: KeepLogs::default(),
            caps: LogCaps::default(),
        }
    }
}

impl LogSection {
    /// As `NewContainerLogManager` checks its own.
    pub(super) fn check(self) -> Result<LogOptions, (&'static str, String)> {
        let Self {
            container_log_max_size_mib,
            container_log_max_files,
            keep_removed_pods,
            keep_removed_hours,
            stream_kib_per_second,
            stream_max_mib,
        } = self;
        if container_log_max_files < 2 {
            return Err(("logs.container_log_max_files", "must be at least 2".to_owned()));
        }
        Ok(LogOptions {
            rotation: mib(container_log_max_size_mib).map(|max_bytes| Rotation {
                max_bytes,
                max_files: container_log_max_files,
            }),
            keep: KeepLogs {
                pods: keep_removed_pods,
                at_most: keep_removed_hours.map(|hours| Duration::from_secs(hours.saturating_mul(3600))),
            },
            caps: LogCaps {
                bytes_per_second: stream_kib_per_second.map(|kib| kib.saturating_mul(KIB)),
                bytes: stream_max_mib.and_then(|most| mib(most.get())),
            },
        })
    }
}

const KIB: NonZeroU64 = NonZeroU64::new(1 << 10).expect("it is not zero");

fn mib(count: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(count.saturating_mul(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_rotated_as_a_kubelets_and_go_with_their_pods_unless_told_otherwise() {
        let check = |text: &str| {
            let section: LogSection = toml::from_str(text).unwrap();
            section.check().map_err(|(field, _)| field)
        };
        let usual = LogOptions::default();
        let rotation = Rotation {
            max_bytes: NonZeroU64::new(10 << 20).unwrap(),
            max_files: 5,
        };
        assert_eq!(usual.rotation, Some(rotation));
        assert_eq!(check(""), Ok(usual));
        assert_eq!(check("container_log_max_size_mib = 0").unwrap().rotation, None);
        assert_eq!(
            check("container_log_max_files = 1"),
            Err("logs.container_log_max_files")
        );
        let text =
            "keep_removed_pods = 3\nkeep_removed_hours = 2\nstream_kib_per_second = 4\nstream_max_mib = 1";
        let told = check(text).unwrap();
        let keep = KeepLogs {
            pods: 3,
            at_most: Some(Duration::from_hours(2)),
        };
        assert_eq!(told.keep, keep);
        assert_eq!(told.caps.bytes_per_second, NonZeroU64::new(4096));
        assert_eq!(told.caps.bytes, NonZeroU64::new(1 << 20));
    }
}
