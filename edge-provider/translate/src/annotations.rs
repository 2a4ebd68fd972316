//! The annotations of a pod that this crate reads, and what their values may be.

use edge_protocol::v1::ReadyPolicy;

/// How many devices must be healthy: `all` (default), `any`, `1%` to `100%`.
pub const READY_POLICY: &str = "outrigger.io/ready-policy";
/// How a new revision takes over: `surge` (default) or `replace`.
pub const UPDATE: &str = "outrigger.io/update";
/// Names the device that answers for a fleet pod: `kubectl logs`, `exec` and the like reach that one.
pub const DEVICE: &str = "outrigger.io/device";
/// Asks for the service account's token on every device; `false` is as good as absent.
pub const SERVICE_ACCOUNT_TOKEN: &str = "outrigger.io/service-account-token";

/// The value of [`UPDATE`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Update {
    /// Beside the old one until it is Ready, as on any node.
    #[default]
    Surge,
    /// In its place on each device: pull, stop, start.
    Replace,
}

/// Reads [`READY_POLICY`]; absent is the default.
pub(crate) fn ready_policy(value: Option<&String>) -> Result<ReadyPolicy, &'static str> {
    let Some(value) = value else {
        return Ok(ReadyPolicy::default());
    };
    ReadyPolicy::try_from(value.clone()).map_err(|_| "must be all, any, or 1% to 100%")
}

/// Reads [`UPDATE`]; absent is the default.
pub(crate) fn update(value: Option<&String>) -> Result<Update, &'static str> {
    match value.map(String::as_str) {
        None | Some("surge") => Ok(Update::Surge),
        Some("replace") => Ok(Update::Replace),
        Some(_) => Err("must be surge or replace"),
    }
}
