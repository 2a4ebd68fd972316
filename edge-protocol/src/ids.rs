//! Identifiers as types whose constructors validate, so that a value in hand is a value that is well formed.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not the identifier it was offered as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} is not valid: {rule}")]
pub struct InvalidId {
    /// Which identifier was asked for, in words.
    pub what: &'static str,
    /// The offending text, cut to 80 characters.
    pub value: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
        pub struct $name(String);

        impl $name {
            /// Checks the text against the identifier's rule.
            ///
            /// # Errors
            /// [`InvalidId`] names the rule that the text breaks.
            pub fn new(value: impl Into<String>) -> Result<Self, InvalidId> {
                let value = value.into();
                let check: fn(&str) -> bool = $check;
                if check(&value) {
                    Ok(Self(value))
                } else {
                    Err(InvalidId { what: $what, value: value.chars().take(80).collect(), rule: $rule })
                }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(value: String) -> Result<Self, InvalidId> {
                Self::new(value)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(value: &str) -> Result<Self, InvalidId> {
                Self::new(value)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// A device. It becomes a certificate name, an MQTT client id, a topic level and perhaps a Node name, so it is an RFC 1123 label.
    DeviceId,
    "device id",
    "1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit",
    is_label
);

text_id!(
    /// A pod's `metadata.uid`; also the key of the deployment made from it and of its workload on every device.
    PodUid,
    "pod uid",
    "1 to 64 of A-Z, a-z, 0-9 and '-', beginning with a letter or digit",
    |text| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
    }
);

text_id!(
    /// The serial of a device's enrolment: the certificate serial in lower-case hex. A new enrolment of the same id has another.
    EnrolmentSerial,
    "enrolment serial",
    "2 to 64 lower-case hex digits",
    |text| (2..=64).contains(&text.len()) && is_hex(text)
);

text_id!(
    /// The random challenge of one hello; what the hub signs for a session is bound to it.
    Nonce,
    "nonce",
    "32 lower-case hex digits",
    |text| text.len() == 32 && is_hex(text)
);

impl Nonce {
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(crate::digest::hex(&bytes))
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id!(
    /// A hub, for as long as its signing key lives. It survives restores; its [`Incarnation`] does not.
    HubId
);
uuid_id!(
    /// One boot of a machine, as Linux gives it in `/proc/sys/kernel/random/boot_id`.
    BootId
);

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id!(
    /// One unbroken history of a hub's store. A restored hub starts a greater one.
    Incarnation
);
number_id!(
    /// One session of one device, issued by the hub and rising per device.
    SessionEpoch
);
number_id!(
    /// The version of one deployment; rises by one with every accepted change.
    DeploymentRevision
);

/// Where a device's desired set stands: compared first by the hub's incarnation, then by the count inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SetGeneration {
    pub incarnation: Incarnation,
    pub n: u64,
}

impl fmt::Display for SetGeneration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.n)
    }
}

fn is_label(text: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && edge(text.bytes().next())
        && edge(text.bytes().next_back())
}

fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_device(text: &str, valid: bool) {
        assert_eq!(DeviceId::new(text).is_ok(), valid, "{text:?}");
    }

    #[test]
    fn device_ids_are_dns_labels() {
        check_device("press-7", true);
        check_device("7", true);
        check_device(&"a".repeat(63), true);
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a.b",
            "a/b",
            "a+",
            "é",
            "a b",
            &"a".repeat(64),
        ] {
            check_device(bad, false);
        }
    }

    #[test]
    fn a_document_cannot_smuggle_an_invalid_id() {
        let error = serde_json::from_str::<DeviceId>("\"../x\"")
            .unwrap_err()
            .to_string();
        assert!(error.contains("device id"), "{error}");
        assert!(serde_json::from_str::<Nonce>("\"00\"").is_err());
    }

    #[test]
    fn incarnation_decides_before_the_count() {
        let at = |incarnation, n| SetGeneration {
            incarnation: Incarnation(incarnation),
            n,
        };
        assert!(at(2, 1) > at(1, 900));
        assert!(at(2, 2) > at(2, 1));
    }
}
