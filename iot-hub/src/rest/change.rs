//! Changes: what a caller asks of the machine, with its cause for the audit.

use axum::http::StatusCode;
use iot_hub_core::{Call, CallError};
use iot_hub_store::AuditRecord;

use super::Api;
use super::problem::Refusal;
use crate::clock;
use crate::grant::Principal;

impl Api {
    /// Asks for a change; 204 once it is on disk.
    pub(super) async fn change(
        &self,
        principal: &Principal,
        action: &str,
        subject: String,
        call: Call,
    ) -> Result<StatusCode, Refusal> {
        self.try_change(principal, action, subject, call).await??;
        Ok(StatusCode::NO_CONTENT)
    }

    /// As [`change`](Self::change), with the machine's refusal as it is.
    pub(super) async fn try_change(
        &self,
        principal: &Principal,
        action: &str,
        subject: String,
        call: Call,
    ) -> Result<Result<(), CallError>, Refusal> {
        let cause = audit(principal, action, subject);
        Ok(self.pump.call(call, Some(cause)).await?)
    }
}

pub(super) fn audit(principal: &Principal, action: &str, subject: String) -> AuditRecord {
    AuditRecord {
        id: 0,
        at_ms: clock::wall_ms(),
        principal: principal.name.clone(),
        action: action.to_owned(),
        subject,
    }
}
