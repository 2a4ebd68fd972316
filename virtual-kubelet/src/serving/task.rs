//! Keeps the certificate: asks for it, waits for it, renews it, and falls back on one of its own making.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls::server::ResolvesServerCert;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use virtual_kubelet_core::serving::{
    SIGNER, ServingNames, ServingWord, SigningRequest, Standing, USAGES, Unserved,
};

use super::REQUESTS;
use super::file::CertificateFile;
use super::material::{Certificate, Current, Key, MaterialError};
use crate::cluster::Cluster;
use crate::error::{Error, chain};

/// Between two looks at a request, doubled from the first to the last.
const LOOK: Duration = Duration::from_millis(250);
const LOOK_CAP: Duration = Duration::from_secs(30);
/// A request that waits for longer is told of.
const PATIENCE: Duration = Duration::from_secs(10);
/// Kubernetes removes a request that nobody judged after this long (`pendingExpiration` of `pkg/controller/certificates/cleaner`); where nobody
/// removes it, it is given up.
const PENDING: Duration = Duration::from_hours(24);
/// Between two requests of which the first failed. A refused request is an object in the cluster for an hour.
const AGAIN: Duration = Duration::from_secs(2);
const AGAIN_CAP: Duration = Duration::from_mins(10);
/// The wall clock may be set while nothing happens.
const NAP: Duration = Duration::from_hours(1);

/// Who makes the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateSource {
    /// The cluster's signer for kubelets.
    Cluster,
    /// This process: for clusters whose API server does not verify kubelets, or that have no such signer.
    Own,
}

#[derive(Debug, Clone)]
pub struct ServingOptions {
    /// Whose name the certificate carries: the node that is always served.
    pub node: String,
    pub source: CertificateSource,
    /// Absent keeps the key in memory; every start asks for a new certificate then.
    pub file: Option<CertificateFile>,
}

/// What others need of it. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct ServingHandle {
    current: Arc<Current>,
    word: watch::Receiver<Option<ServingWord>>,
}

impl ServingHandle {
    /// The certificate of the moment, for a TLS server's configuration: there always is one.
    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::clone(&self.current) as Arc<dyn ResolvesServerCert>
    }

    /// What the Nodes tell of it; `None` until that is known.
    pub fn word(&self) -> watch::Receiver<Option<ServingWord>> {
        self.word.clone()
    }
}

/// Sole owner of keys and certificates. Only the process that leads asks for one: the approver compares with what that process publishes.
pub struct ServingTask {
    cluster: Cluster,
    options: ServingOptions,
    /// What the Node publishes: a change is a new certificate.
    names: watch::Receiver<ServingNames>,
    own_key: Key,
    own: Certificate,
    issued: Option<Certificate>,
    /// Why there is none, or no successor.
    why: Option<Unserved>,
    /// Where in its last third the certificate is renewed.
    draw: f64,
    failures: u32,
    current: Arc<Current>,
    word: watch::Sender<Option<ServingWord>>,
}

impl ServingTask {
    /// Makes a first certificate of its own, and takes up the saved one if that serves. Blocks for a small file.
    ///
    /// # Errors
    /// [`MaterialError`] when the names are none of a certificate.
    pub fn new(
        cluster: Cluster,
        options: ServingOptions,
        names: watch::Receiver<ServingNames>,
    ) -> Result<(ServingHandle, Self), MaterialError> {
        let own_key = Key::generate()?;
        let own = own_key.self_signed(&options.node, &names.borrow())?;
        let current = Arc::new(Current::new(Arc::clone(&own.certified)));
        let (word, words) = watch::channel(None);
        let why = match options.source {
            CertificateSource::Cluster => None,
            CertificateSource::Own => Some(Unserved::new("Configured", "the configuration wants no other")),
        };
        let mut task = Self {
            issued: saved(&options),
            cluster,
            options,
            names,
            own_key,
            own,
            why,
            draw: rand::random(),
            failures: 0,
            current: Arc::clone(&current),
            word,
        };
        task.show();
        Ok((ServingHandle { current, word: words }, task))
    }

    /// Runs for ever; dropping the future ends it, and what served last serves on.
    pub async fn run(mut self) {
        loop {
            let names = self.names.borrow_and_update().clone();
            let mut changes = self.names.clone();
            self.show();
            // What is dropped on a change is a request for names of before.
            match self.due(Timestamp::now()) {
                None => tokio::select! {
                    () = self.obtain(&names) => {}
                    Ok(()) = changes.changed() => {}
                },
                Some(rest) => tokio::select! {
                    () = sleep(rest) => {}
                    Ok(()) = changes.changed() => {}
                },
            }
        }
    }

    /// How long there is nothing to ask for, at most [`NAP`]; `None` when a certificate is due.
    fn due(&self, now: Timestamp) -> Option<Duration> {
        if self.options.source == CertificateSource::Own {
            return Some(NAP);
        }
        let renew_at = self.issued.as_ref()?.life.renew_at(self.draw);
        let left = Duration::try_from(renew_at.duration_since(now)).ok()?;
        (!left.is_zero()).then(|| left.min(NAP))
    }

    /// Asks once for a certificate, and pauses if there was none.
    async fn obtain(&mut self, names: &ServingNames) {
        match self.ask(names).await {
            Ok(()) => {
                (self.why, self.failures, self.draw) = (None, 0, rand::random());
                self.show();
            }
            Err(why) => {
                tracing::warn!(
                    reason = why.reason,
                    why = why.message,
                    "no certificate for the kubelet API"
                );
                self.why = Some(why);
                self.show();
                let ceiling = AGAIN.saturating_mul(1 << self.failures.min(10)).min(AGAIN_CAP);
                self.failures = self.failures.saturating_add(1);
                sleep(ceiling.mul_f64(rand::random_range(0.5..1.0))).await;
            }
        }
    }

    /// A key, its request, and the wait for what becomes of it.
    async fn ask(&mut self, names: &ServingNames) -> Result<(), Unserved> {
        let odd = |error: MaterialError| Unserved::new("NotAsked", chain(&error));
        let key = Key::generate().map_err(odd)?;
        let request = key.request(&self.options.node, names).map_err(odd)?;
        let body = json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"generateName": format!("{}-serving-", self.options.node)},
            "spec": {"request": STANDARD.encode(request), "signerName": SIGNER, "usages": USAGES},
        });
        let filed = self.cluster.post(REQUESTS, &body).await.and_then(parse);
        let filed = filed.map_err(|error| Unserved::new("NotAsked", error.chain()))?;
        tracing::info!(request = filed.metadata.name, %names, "asked for a certificate of the kubelet API");
        let issued = self.outcome(&filed).await?;
        let pem = STANDARD
            .decode(issued)
            .map_err(|_| unusable(&filed, "it is not base64"))?;
        let certificate = key
            .issued(&pem)
            .map_err(|error| unusable(&filed, &chain(&error)))?;
        if !certificate.names.cover(names) {
            return Err(unusable(&filed, &format!("it is for {}", certificate.names)));
        }
        if certificate.life.has_ended(Timestamp::now()) {
            return Err(unusable(
                &filed,
                &format!("it ended at {}", certificate.life.not_after),
            ));
        }
        tracing::info!(
            request = filed.metadata.name,
            until = %certificate.life.not_after,
            "the kubelet API has a certificate of the cluster"
        );
        self.issued = Some(certificate);
        self.save(key, pem).await;
        Ok(())
    }

    /// Waits until the request was decided, and gives the chain in base64. While nobody decides, that is told, and what is served stays right.
    async fn outcome(&mut self, filed: &SigningRequest) -> Result<String, Unserved> {
        let name = &filed.metadata.name;
        let path = format!("{REQUESTS}/{name}");
        let begun = Instant::now();
        let mut pause = LOOK;
        loop {
            sleep(pause).await;
            pause = (pause * 2).min(LOOK_CAP);
            let waiting = match self.look(&path, &filed.metadata.uid).await {
                Ok(Some(Standing::Issued(chain))) => return Ok(chain),
                Ok(Some(Standing::Denied(why))) => {
                    return Err(Unserved::new(
                        "Denied",
                        format!("request {name} was denied: {why}"),
                    ));
                }
                Ok(Some(Standing::Failed(why))) => {
                    return Err(Unserved::new(
                        "Failed",
                        format!("the signer refused {name}: {why}"),
                    ));
                }
                Ok(None) => {
                    return Err(Unserved::new(
                        "Removed",
                        format!("request {name} was removed unanswered"),
                    ));
                }
                Ok(Some(Standing::Pending)) => {
                    Unserved::new("NotApproved", format!("request {name} is not approved"))
                }
                Ok(Some(Standing::Approved)) => Unserved::new(
                    "NotSigned",
                    format!("request {name} is approved, and no signer signs it"),
                ),
                Err(error) => Unserved::new("NotAnswered", error.chain()),
            };
            let waited = begun.elapsed();
            if waited >= PENDING {
                return Err(waiting);
            }
            if waited >= PATIENCE {
                self.why = Some(waiting);
                self.show();
            }
        }
    }

    /// `None` when the request is gone, or is another of its name.
    async fn look(&self, path: &str, uid: &str) -> Result<Option<Standing>, Error> {
        let Some(found) = self.cluster.get(path).await? else {
            return Ok(None);
        };
        let found = parse(found)?;
        Ok((found.metadata.uid == uid).then(|| found.standing()))
    }

    /// A file that cannot be written costs the next start a request, and nothing else.
    async fn save(&self, key: Key, pem: Vec<u8>) {
        let Some(file) = self.options.file.clone() else {
            return;
        };
        let saved = tokio::task::spawn_blocking(move || file.save(&key.to_pem(), &pem)).await;
        match saved {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(
                    error = chain(&error),
                    "the certificate of the kubelet API is not saved"
                );
            }
            Err(error) => tracing::warn!(%error, "the certificate of the kubelet API is not saved"),
        }
    }

    /// Brings what is served, and what is told of it, to what there is.
    fn show(&mut self) {
        let names = self.names.borrow().clone();
        let serves =
            |issued: &Certificate| issued.names.cover(&names) && !issued.life.has_ended(Timestamp::now());
        self.issued = self.issued.take().filter(serves);
        if !self.own.names.cover(&names) {
            match self.own_key.self_signed(&self.options.node, &names) {
                Ok(own) => self.own = own,
                Err(error) => {
                    tracing::error!(error = chain(&error), %names, "no certificate can be made for these names");
                }
            }
        }
        let (certificate, word) = match &self.issued {
            Some(issued) => {
                let renewal = self.why.clone();
                (issued, Some(ServingWord::Issued { renewal }))
            }
            None => (
                &self.own,
                self.why.clone().map(|why| ServingWord::SelfSigned { why }),
            ),
        };
        self.current.set(Arc::clone(&certificate.certified));
        self.word.send_if_modified(|told| {
            let changed = *told != word;
            *told = word;
            changed
        });
    }
}

/// The certificate of an earlier process, unless it serves no longer.
fn saved(options: &ServingOptions) -> Option<Certificate> {
    let file = options.file.as_ref()?;
    if options.source == CertificateSource::Own {
        return None;
    }
    file.load().unwrap_or_else(|error| {
        tracing::warn!(
            error = chain(&error),
            "the saved certificate of the kubelet API is not used"
        );
        None
    })
}

fn unusable(request: &SigningRequest, why: &str) -> Unserved {
    let name = &request.metadata.name;
    Unserved::new(
        "Unusable",
        format!("what was signed for request {name} cannot be used: {why}"),
    )
}

fn parse(request: Value) -> Result<SigningRequest, Error> {
    serde_json::from_value(request).map_err(|_| Error::Malformed {
        path: REQUESTS.to_owned(),
        what: "a certificate signing request",
    })
}
