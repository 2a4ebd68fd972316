//! The section `[stats]`: whether the device tells what it uses, and how often at the most.

use serde::Deserialize;

use edge_protocol::v1::MAX_STATS_INTERVAL_MS;

#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct StatsSection {
    /// Whether it tells them at all.
    tell: bool,
    /// The least time between two samples.
    floor_s: u64,
}

impl Default for StatsSection {
    fn default() -> Self {
        Self {
            tell: true,
            floor_s: 10,
        }
    }
}

/// Checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatsOptions {
    pub tell: bool,
    /// The least time between two samples, in milliseconds.
    pub floor_ms: u64,
}

impl StatsSection {
    pub(super) fn check(self) -> Result<StatsOptions, (&'static str, String)> {
        let Self { tell, floor_s } = self;
        let most = MAX_STATS_INTERVAL_MS / 1_000;
        if !(1..=most).contains(&floor_s) {
            return Err(("stats.floor_s", format!("must be 1 to {most}")));
        }
        Ok(StatsOptions {
            tell,
            floor_ms: floor_s * 1_000,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_has_bounds() {
        let of = |floor_s| {
            StatsSection {
                floor_s,
                ..StatsSection::default()
            }
            .check()
        };
        assert_eq!(StatsSection::default().check().unwrap().floor_ms, 10_000);
        assert_eq!(of(1).unwrap().floor_ms, 1_000);
        assert!(of(600).is_ok());
        assert_eq!(of(0).unwrap_err().0, "stats.floor_s");
        assert!(of(601).is_err());
    }
}
