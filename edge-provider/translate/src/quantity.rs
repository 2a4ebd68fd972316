//! Kubernetes quantities (`1500m`, `64Mi`, `1e3`) read exactly, without floating point.
//!
//! The grammar and the rounding are those of `k8s.io/apimachinery/pkg/api/resource/quantity.go`: finer than a billionth is
//! rounded up, greater than 2⁶³−1 is capped.

/// Longest text that is read; the API server's canonical form needs at most 20 characters.
const LONGEST: usize = 32;
const NANO: u128 = 1_000_000_000;
const CAP: u128 = i64::MAX as u128 * NANO;

/// A quantity that is not negative, in billionths of its unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Amount(u128);

/// The text is no quantity that a container could ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a quantity")]
pub(crate) struct NotAQuantity;

impl Amount {
    /// Reads one quantity.
    ///
    /// # Errors
    /// [`NotAQuantity`] for another grammar, a negative value, or a text longer than any canonical one.
    pub(crate) fn parse(text: &str) -> Result<Self, NotAQuantity> {
        if text.len() > LONGEST {
            return Err(NotAQuantity);
        }
        let text = text.strip_prefix('+').unwrap_or(text);
        let number_end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(number_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(NotAQuantity);
        }
        let digits: u128 = [whole, fraction].concat().parse().map_err(|_| NotAQuantity)?;
        let scale = i32::try_from(fraction.len()).map_err(|_| NotAQuantity)?;
        let (binary, decimal) = unit(suffix)?;
        Ok(Self(scaled(digits, binary, decimal + 9 - scale).min(CAP)))
    }

    pub(crate) fn is_zero(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn is_whole(self) -> bool {
        self.0.is_multiple_of(NANO)
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self((self.0 + other.0).min(CAP))
    }

    /// In thousandths, rounded up as `MilliValue` does.
    pub(crate) fn milli(self) -> u64 {
        saturate(self.0.div_ceil(NANO / 1000))
    }

    /// In whole units, rounded up as `Value` does.
    pub(crate) fn whole(self) -> u64 {
        saturate(self.0.div_ceil(NANO))
    }
}

fn saturate(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// `digits × 2^binary × 10^decimal`, rounded up, saturating.
fn scaled(digits: u128, binary: u32, decimal: i32) -> u128 {
    let power = 10_u128.checked_pow(decimal.unsigned_abs());
    let shifted = digits.saturating_mul(1 << binary);
    match (decimal >= 0, power) {
        _ if digits == 0 => 0,
        (true, Some(power)) => shifted.saturating_mul(power),
        (true, None) => u128::MAX,
        (false, Some(power)) => shifted.div_ceil(power),
        (false, None) => 1,
    }
}

/// The power of two and the power of ten that a suffix stands for.
fn unit(suffix: &str) -> Result<(u32, i32), NotAQuantity> {
    Ok(match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        other => {
            let exponent = other.strip_prefix(['e', 'E']).ok_or(NotAQuantity)?;
            let exponent: i16 = exponent.parse().map_err(|_| NotAQuantity)?;
            (0, i32::from(exponent))
        }
    })
}

#[cfg(test)]
mod tests;
