//! `outrigger.io/disconnect`: what Kubernetes' reaction to silence means for a workload, in its author's words.

/// The annotation, on a pod and on the manifest made from it.
pub const DISCONNECT_ANNOTATION: &str = "outrigger.io/disconnect";

const MS_PER_S: u64 = 1_000;
/// Longer is no deadline any more but a mistake.
const LONGEST_MS: u64 = 366 * 86_400 * MS_PER_S;

/// What the reaction means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Disconnect {
    /// The workload runs on as an orphan (law 1).
    #[default]
    Run,
    /// The reaction counts as intent: Kubernetes may replace the pod, and its workload stops.
    Replace,
    /// It runs on as an orphan, but for no longer than this.
    StopAfter { ms: u64 },
}

impl Disconnect {
    /// Reads the annotation's value; absent is the default.
    ///
    /// # Errors
    /// What the value must be. Who has refused it elsewhere already takes the default.
    pub fn read(value: Option<&str>) -> Result<Self, &'static str> {
        match value {
            None | Some("run") => Ok(Self::Run),
            Some("replace") => Ok(Self::Replace),
            Some(value) => value
                .strip_prefix("stop-after=")
                .and_then(duration_ms)
                .filter(|ms| (MS_PER_S..=LONGEST_MS).contains(ms))
                .map(|ms| Self::StopAfter { ms })
                .ok_or("must be run, replace, or stop-after= with 1s to 366d, such as stop-after=1h30m"),
        }
    }
}

/// Whole numbers with the units d, h, m, s, each at most once and in this order.
fn duration_ms(text: &str) -> Option<u64> {
    let mut units = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)].into_iter();
    let mut rest = text;
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits)?;
        let unit = tail.chars().next()?;
        let (_, seconds) = units.find(|(name, _)| *name == unit)?;
        let ms = number.parse::<u64>().ok()?.checked_mul(seconds * MS_PER_S)?;
        sum = sum.checked_add(ms)?;
        rest = tail.get(1..)?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_read_or_refused() {
        let after = |ms| Ok(Disconnect::StopAfter { ms });
        for (value, expected) in [
            ("run", Ok(Disconnect::Run)),
            ("replace", Ok(Disconnect::Replace)),
            ("stop-after=1s", after(1_000)),
            ("stop-after=90m", after(5_400_000)),
            ("stop-after=1h30m", after(5_400_000)),
            ("stop-after=2d4h5m6s", after(187_506_000)),
        ] {
            assert_eq!(Disconnect::read(Some(value)), expected, "{value}");
        }
        assert_eq!(Disconnect::read(None), Ok(Disconnect::Run));
        for bad in [
            "",
            "stop",
            "stop-after",
            "stop-after=",
            "stop-after=0s",
            "stop-after=10",
            "stop-after=1m1h",
            "stop-after=1h1h",
            "stop-after=-1h",
            "stop-after=1.5h",
            "stop-after=1hé",
            "stop-after=h",
            "stop-after=367d",
            "stop-after=99999999999999999999d",
            "stop-after=999999999999999999d",
        ] {
            assert!(Disconnect::read(Some(bad)).is_err(), "{bad}");
        }
    }
}
