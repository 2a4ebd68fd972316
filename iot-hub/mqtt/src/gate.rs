//! The gate: the caller's answer to "whose certificate is this, and may it come in now?".

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::ids::{DeviceId, Serial};
use crate::tls::PeerCertificates;

/// Who a certificate belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub device: DeviceId,
    pub serial: Serial,
}

/// Why the gate lets nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The certificate names no device of this hub.
    UnknownDevice,
    /// The serial was revoked or replaced.
    Revoked,
    /// The device is known, but its state does not admit it.
    NotAdmitted,
    /// The gate could not find out. The device may try again: CONNACK 3, where the others give 5.
    Unavailable,
}

type Answer = Pin<Box<dyn Future<Output = Result<Identity, Refusal>> + Send>>;

/// A shared asynchronous function from certificates to identity.
///
/// It is asked after *every* handshake, and again just before a session begins if anything was cut meanwhile, so a
/// revocation followed by [`cut`](crate::EndpointHandle::cut) leaves no session behind. It must look up serial and
/// state anew each time. Its future is dropped at [`Options::gate_timeout`](crate::Options::gate_timeout).
#[derive(Clone)]
pub struct Gate(Arc<dyn Fn(PeerCertificates) -> Answer + Send + Sync>);

impl Gate {
    pub fn new<F, R>(ask: F) -> Self
    where
        F: Fn(PeerCertificates) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Identity, Refusal>> + Send + 'static,
    {
        Self(Arc::new(move |certificates| Box::pin(ask(certificates))))
    }

    pub(crate) fn ask(&self, certificates: PeerCertificates) -> Answer {
        (self.0)(certificates)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}
