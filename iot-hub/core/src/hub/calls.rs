//! Calls by people and providers, each checked whole before anything changes.

use std::collections::BTreeMap;

use edge_protocol::text::sanitise;

use super::{Hub, Turn};
use crate::io::{Call, CallError};

impl Hub {
    pub(super) fn call(&mut self, turn: &mut Turn, call: Call) -> Result<(), CallError> {
        match call {
            Call::EnrolDevice { device, enrolment } => self.enrol(turn, &device, *enrolment),
            Call::SetTags { device, tags } => self.set_tags(turn, &device, tags),
            Call::SetLink { device, link } => self.set_link(turn, &device, link),
            Call::SetDeviceState { device, state } => self.set_device_state(turn, &device, state),
            Call::ForgetDevice { device } => self.forget_device(turn, &device),
            Call::PutDeployment { spec, objects } => self.put_deployment(turn, *spec, objects),
            Call::DeleteDeployment {
                uid,
                source_node,
                grace_period_s,
                reason,
            } => {
                let deployment = self
                    .fleet
                    .get(&uid)
                    .ok_or(CallError::NoSuchDeployment(uid.clone()))?;
                if source_node.is_some_and(|node| node != deployment.record.spec.source.node) {
                    return Err(CallError::NotYours);
                }
                self.delete(turn, &uid, grace_period_s, reason);
                self.ask(turn, &uid);
                Ok(())
            }
            Call::PutKeyWraps { uid, wraps } => self.put_key_wraps(turn, &uid, wraps),
            Call::ReleaseDeployment { uid } => self.release(turn, &uid),
        }
    }

    pub(super) fn check_tags(&self, group: &str, tags: &BTreeMap<String, String>) -> Result<(), CallError> {
        let limits = &self.config.limits;
        let bad = |why: String| Err(CallError::BadTags(why));
        if tags.len() > limits.tags {
            return bad(format!("{} tags exceed {}", tags.len(), limits.tags));
        }
        for text in tags
            .iter()
            .flat_map(|(key, value)| [key.as_str(), value])
            .chain([group])
        {
            if text.len() > limits.tag_bytes {
                return bad(format!(
                    "a text of {} bytes exceeds {}",
                    text.len(),
                    limits.tag_bytes
                ));
            }
            let clean = sanitise(text);
            if clean != text {
                return bad(format!("'{clean}' contains control characters"));
            }
        }
        if tags.contains_key("") {
            return bad("a key is empty".to_owned());
        }
        Ok(())
    }
}
