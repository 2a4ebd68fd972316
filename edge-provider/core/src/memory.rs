//! What must outlive the process for laws 1 and 2 to hold: without it a restart would believe an older list, with a fresh brake.
//!
//! It is kept before what was decided on its ground is carried out.

use serde::{Deserialize, Serialize};

/// Told by [`Effect::Remember`](crate::Effect::Remember) whenever it changed, and handed back to
/// [`Bridge::new`](crate::Bridge::new). Unknown members are ignored and absent ones are empty, so that neighbouring versions
/// read each other's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// The cluster of the last list that counted.
    pub cluster_uid: Option<String>,
    /// The newest version seen there: no older list counts.
    pub resource_version: Option<u64>,
    /// The inferred removals inside the brake's window, oldest first.
    pub removed: Vec<Removed>,
    /// Removals were held back for a person to decide.
    pub holds: bool,
}

/// Inferred removals of one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// By the wall clock, the only one that two processes share.
    pub at_ms: i64,
    pub count: usize,
}

impl Memory {
    /// Reads what [`to_text`](Self::to_text) wrote. Of what cannot be read nothing is assumed but the worst: inferred removals
    /// wait for a person.
    ///
    /// # Errors
    /// The reader's error, with the cautious memory to go on with.
    pub fn from_text(text: &str) -> Result<Self, (Self, serde_json::Error)> {
        let cautious = || Self {
            holds: true,
            ..Self::default()
        };
        serde_json::from_str(text).map_err(|error| (cautious(), error))
    }

    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("a memory has only string keys")
    }

    /// The same but for the version: a version alone is worth no write.
    pub(crate) fn at_version(&self, resource_version: Option<u64>) -> Self {
        Self {
            resource_version,
            ..self.clone()
        }
    }

    /// What of it is of use under this pin: a configured cluster's own, or that of any cluster when none is configured.
    pub(crate) fn of_cluster(self, pinned: Option<&str>) -> Self {
        match (pinned, self.cluster_uid.as_deref()) {
            (Some(pinned), Some(ours)) if pinned != ours => Self::default(),
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_survives_its_text_and_the_unreadable_is_cautious() {
        let memory = Memory {
            cluster_uid: Some("c".into()),
            resource_version: Some(7),
            removed: vec![Removed { at_ms: 3, count: 2 }],
            holds: false,
        };
        assert_eq!(Memory::from_text(&memory.to_text()).unwrap(), memory);
        assert_eq!(Memory::from_text(r#"{"later": 1}"#).unwrap(), Memory::default());
        let (cautious, _) = Memory::from_text("{").unwrap_err();
        assert!(cautious.holds);
    }
}
