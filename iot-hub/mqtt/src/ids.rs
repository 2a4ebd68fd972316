//! Validated ids: devices, enrolment serials, connections.

use std::fmt;
use std::sync::Arc;

/// The id of a device, `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`: safe inside a topic. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(Arc<str>);

impl DeviceId {
    /// # Errors
    /// [`IdError::Device`] unless `id` has the form above.
    pub fn new(id: &str) -> Result<Self, IdError> {
        let bytes = id.as_bytes();
        let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let valid = (1..=63).contains(&bytes.len())
            && bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
            && bytes.first().is_some_and(alphanumeric)
            && bytes.last().is_some_and(alphanumeric);
        if valid {
            Ok(Self(id.into()))
        } else {
            Err(IdError::Device)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The serial of the enrolment that a certificate stands for: 1 to 64 ASCII letters, digits, `-`, `:` or `.`. Opaque here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(Arc<str>);

impl Serial {
    /// # Errors
    /// [`IdError::Serial`] unless `serial` has the form above.
    pub fn new(serial: &str) -> Result<Self, IdError> {
        let valid = (1..=64).contains(&serial.len())
            && serial
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b':' | b'.'));
        if valid {
            Ok(Self(serial.into()))
        } else {
            Err(IdError::Serial)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One session's connection. Rises with every session and is never reused while the process lives, so that a late word
/// about an old connection cannot hit a new one (K7 in rumqttd).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(crate) u64);

impl ConnectionId {
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An id that does not have its form. It does not repeat the text, which may come from a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("a device id is 1 to 63 of a-z, 0-9 and '-', with no '-' at either end")]
    Device,
    #[error("a serial is 1 to 64 ASCII letters, digits, '-', ':' or '.'")]
    Serial,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_ids() {
        let long = "a".repeat(63);
        let too_long = "a".repeat(64);
        for (id, valid) in [
            ("a", true),
            ("0", true),
            ("pump-7", true),
            (&long, true),
            (&too_long, false),
            ("", false),
            ("-a", false),
            ("a-", false),
            ("A", false),
            ("a/b", false),
            ("a+", false),
            ("#", false),
            ("é", false),
            ("a\0", false),
        ] {
            assert_eq!(DeviceId::new(id).is_ok(), valid, "{id:?}");
        }
    }

    #[test]
    fn serials() {
        let too_long = "a".repeat(65);
        for (serial, valid) in [
            ("0A:1f", true),
            ("7", true),
            ("", false),
            ("a b", false),
            (&too_long, false),
        ] {
            assert_eq!(Serial::new(serial).is_ok(), valid, "{serial:?}");
        }
    }
}
