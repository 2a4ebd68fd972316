//! Time as a device can know it: a monotonic count that is right, and a wall clock that may not be.

use serde::{Deserialize, Serialize};

use crate::ids::BootId;

/// When something happened, by the device's own clocks; on every report.
///
/// `mono_ms` orders events inside one boot. `wall_ms` may be off by years unless `wall_trusted`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceTime {
    pub boot_id: BootId,
    /// Milliseconds since that boot, suspended time included (`CLOCK_BOOTTIME`).
    pub mono_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub wall_ms: i64,
    /// Whether the wall clock is at or above the floor of trusted time and was set from a trusted source.
    pub wall_trusted: bool,
}
