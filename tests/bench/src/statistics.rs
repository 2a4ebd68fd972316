//! Quantiles of what was measured.

use std::time::Duration;

use serde::Serialize;

/// A sample in figures. Times are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub count: usize,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

impl Summary {
    /// `None` for an empty sample, of which nothing can be said.
    pub fn of(sample: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut sorted: Vec<f64> = sample.into_iter().map(milliseconds).collect();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        let max = *sorted.last()?;
        Some(Self {
            count,
            mean: sorted.iter().sum::<f64>() / float(count),
            p50: quantile(&sorted, 50),
            p90: quantile(&sorted, 90),
            p99: quantile(&sorted, 99),
            max,
        })
    }
}

/// The nearest-rank quantile: the smallest value that at least `percent` of the sample do not exceed. It is always a measured value.
fn quantile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Counts here are far below 2^52, where every integer is a float.
#[allow(clippy::cast_precision_loss, reason = "counts of pods and bytes")]
pub fn float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_the_nearest_rank() {
        let check = |given: &[u64], expect: Option<[f64; 5]>| {
            let summary = Summary::of(given.iter().copied().map(Duration::from_millis));
            let found = summary.map(|each| [each.mean, each.p50, each.p90, each.p99, each.max]);
            assert_eq!(found, expect, "{given:?}");
        };
        check(&[], None);
        check(&[7], Some([7.0; 5]));
        check(&[3, 1], Some([2.0, 1.0, 3.0, 3.0, 3.0]));
        check(&[4, 2, 3, 1], Some([2.5, 2.0, 4.0, 4.0, 4.0]));
        let hundred: Vec<u64> = (1..=100).rev().collect();
        check(&hundred, Some([50.5, 50.0, 90.0, 99.0, 100.0]));
        let two_hundred: Vec<u64> = (1..=200).collect();
        check(&two_hundred, Some([100.5, 100.0, 180.0, 198.0, 200.0]));
    }
}
