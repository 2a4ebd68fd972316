//! One endpoint on a port of its own, with its certificate authority, its gate and a log of its events.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use iot_hub_mqtt::{
    AcceptorOptions, Bound, ConnectionId, DeviceId, Endpoint, EndpointError, EndpointHandle, Event, Gate,
    Identity, Options, OtherHandler, PeerCertificates, Refusal, RefuseReason, Serial, ServerTls, UpLane,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Deadline of every wait: far above what anything takes.
pub const DEADLINE: Duration = Duration::from_mins(1);

pub struct Site {
    pub address: SocketAddr,
    pub handle: EndpointHandle,
    pub log: Arc<Log>,
    pub ca: Ca,
    pub registry: Arc<Registry>,
    pub stop: CancellationToken,
    pub tasks: JoinSet<()>,
}

/// What the gate knows, by certificate.
#[derive(Default)]
pub struct Registry {
    known: Mutex<HashMap<CertificateDer<'static>, Identity>>,
    revoked: Mutex<HashSet<Serial>>,
    asked: Mutex<usize>,
}

impl Registry {
    pub fn revoke(&self, serial: &Serial) {
        self.revoked.lock().unwrap().insert(serial.clone());
    }

    /// How often the gate was asked.
    pub fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }

    fn resolve(&self, certificates: &PeerCertificates) -> Result<Identity, Refusal> {
        *self.asked.lock().unwrap() += 1;
        let end_entity = certificates.end_entity().ok_or(Refusal::UnknownDevice)?;
        let identity = self
            .known
            .lock()
            .unwrap()
            .get(end_entity)
            .cloned()
            .ok_or(Refusal::UnknownDevice)?;
        if self.revoked.lock().unwrap().contains(&identity.serial) {
            return Err(Refusal::Revoked);
        }
        Ok(identity)
    }
}

/// A certificate authority; all device certificates share one key, which makes 2,000 of them cheap.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub roots: RootCertStore,
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Ca {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            certificate: certificate.der().clone(),
            roots,
            key: KeyPair::generate().unwrap(),
        }
    }

    pub fn issue(&self, name: &str) -> CertificateDer<'static> {
        self.sign(&CertificateParams::new(vec![name.to_owned()]).unwrap())
    }

    fn sign(&self, params: &CertificateParams) -> CertificateDer<'static> {
        params.signed_by(&self.key, &self.issuer).unwrap().der().clone()
    }

    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }

    pub fn server_tls(&self) -> ServerTls {
        ServerTls::new(vec![self.issue("127.0.0.1")], self.key(), self.roots.clone()).unwrap()
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A client's configuration; without certificate if `chain` is empty.
    pub fn client(&self, chain: Vec<CertificateDer<'static>>, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        client(self.roots.clone(), chain, self.key(), alpn)
    }
}

/// The configuration of a client that trusts `roots`; without certificate if `chain` is empty.
pub fn client(
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    alpn: &[&[u8]],
) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = if chain.is_empty() {
        builder.with_no_client_auth()
    } else {
        builder.with_client_auth_cert(chain, key).unwrap()
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

impl Site {
    pub fn start() -> Self {
        Self::with(Options::default(), AcceptorOptions::default())
    }

    pub fn with(options: Options, acceptor: AcceptorOptions) -> Self {
        let (mut site, events) = Self::with_events(options, acceptor);
        let log = Arc::clone(&site.log);
        site.tasks.spawn(log.fill(events));
        site
    }

    /// The same, but nobody takes events except the caller.
    pub fn with_events(options: Options, acceptor: AcceptorOptions) -> (Self, mpsc::Receiver<Event>) {
        let ca = Ca::new();
        let registry = Arc::new(Registry::default());
        let gate = {
            let registry = Arc::clone(&registry);
            Gate::new(move |certificates| {
                let registry = Arc::clone(&registry);
                async move { registry.resolve(&certificates) }
            })
        };
        let (endpoint, handle, events) = Endpoint::new(options, gate).unwrap();
        let bound = Bound::new(([127, 0, 0, 1], 0).into(), acceptor).unwrap();
        let address = bound.local_addr();
        let stop = CancellationToken::new();
        let (_, tls) = watch::channel(ca.server_tls());
        let other = OtherHandler::new(|mut accepted| async move {
            let shown = if accepted.certificates.end_entity().is_some() {
                "known\n"
            } else {
                "anonymous\n"
            };
            accepted.stream.write_all(shown.as_bytes()).await.unwrap();
            accepted.stream.shutdown().await.unwrap();
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(bound.run(tls, handle.clone(), other, stop.clone()));
        let run = endpoint.run(stop.clone());
        tasks.spawn(async move {
            // When a site is dropped, whoever takes its events may go first.
            assert!(matches!(run.await, Ok(()) | Err(EndpointError::EventsDropped)));
        });
        (
            Self {
                address,
                handle,
                log: Arc::default(),
                ca,
                registry,
                stop,
                tasks,
            },
            events,
        )
    }

    /// Enrols a device under a serial of its own: its certificate is known to the gate.
    pub fn enrol(&self, name: &str) -> Arc<ClientConfig> {
        self.enrol_as(name, name)
    }

    pub fn enrol_as(&self, name: &str, serial: &str) -> Arc<ClientConfig> {
        self.know(self.ca.issue(name), name, serial)
    }

    /// Enrols a device with a certificate that ends then.
    pub fn enrol_until(&self, name: &str, ends: SystemTime) -> Arc<ClientConfig> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = ends.into();
        self.know(self.ca.sign(&params), name, name)
    }

    /// Enrols a device; its certificate.
    pub fn enrol_certificate(&self, name: &str) -> CertificateDer<'static> {
        let certificate = self.ca.issue(name);
        self.know(certificate.clone(), name, name);
        certificate
    }

    fn know(&self, certificate: CertificateDer<'static>, name: &str, serial: &str) -> Arc<ClientConfig> {
        let identity = Identity {
            device: device(name),
            serial: Serial::new(serial).unwrap(),
        };
        self.registry
            .known
            .lock()
            .unwrap()
            .insert(certificate.clone(), identity);
        self.ca.client(vec![certificate], &[b"mqtt"])
    }

    /// The connection of a device's session now.
    pub fn connection(&self, name: &str) -> Option<ConnectionId> {
        let sessions = self.handle.sessions();
        sessions
            .into_iter()
            .find(|session| session.device.as_str() == name)
            .map(|session| session.connection)
    }

    /// Waits until connections were refused for this reason `count` times.
    pub async fn refused(&self, reason: RefuseReason, count: u64) {
        let metrics = self.handle.metrics();
        until(&format!("{count} refused for {reason:?}"), || {
            metrics.refused_for(reason) >= count
        })
        .await;
    }
}

pub fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

/// Waits for a predicate that nothing announces, within the deadline.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(
        timeout(DEADLINE, wait).await.is_ok(),
        "not within the deadline: {what}"
    );
}

/// The events so far.
#[derive(Default)]
pub struct Log {
    events: Mutex<Vec<Event>>,
    added: Notify,
}

impl Log {
    async fn fill(self: Arc<Self>, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            self.events.lock().unwrap().push(event);
            self.added.notify_waiters();
        }
    }

    /// Waits until `find` finds something in the events.
    pub async fn wait<T>(&self, what: &str, find: impl Fn(&[Event]) -> Option<T>) -> T {
        let found = timeout(DEADLINE, async {
            loop {
                let added = self.added.notified();
                if let Some(found) = find(&self.events.lock().unwrap()) {
                    return found;
                }
                added.await;
            }
        });
        let Ok(found) = found.await else {
            panic!("not within the deadline: {what}; events: {:#?}", self.all());
        };
        found
    }

    /// Waits for a device's message with this text.
    pub async fn message(&self, name: &str, lane: UpLane, text: &str) {
        let is = |event: &Event| {
            matches!(event, Event::Message { device, lane: l, bytes, .. }
                if device.as_str() == name && *l == lane && bytes.as_ref() == text.as_bytes())
        };
        self.wait(&format!("{name}: {text}"), |events| {
            events.iter().find(|event| is(event)).map(|_| ())
        })
        .await;
    }

    /// Waits for the end of the `nth` session of a device, counted from 1.
    pub async fn disconnected(&self, name: &str, nth: usize) -> Event {
        let is =
            |event: &&Event| matches!(event, Event::Disconnected { device, .. } if device.as_str() == name);
        self.wait(&format!("end {nth} of {name}"), |events| {
            events.iter().filter(is).nth(nth - 1).cloned()
        })
        .await
    }

    pub fn all(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    /// Nothing of this device became known as a message.
    pub fn assert_silent(&self, name: &str) {
        let messages = self
            .all()
            .into_iter()
            .filter(|event| matches!(event, Event::Message { device, .. } if device.as_str() == name));
        assert_eq!(messages.count(), 0, "messages of {name}");
    }
}
