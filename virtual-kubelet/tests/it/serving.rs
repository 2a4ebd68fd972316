//! The kubelet API's certificate: asked for, renewed, and what is served without one.

mod cluster;

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::{CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use virtual_kubelet::Cluster;
use virtual_kubelet::core::serving::{ServingNames, ServingWord};
use virtual_kubelet::serving::{
    CertificateFile, CertificateSource, ServingHandle, ServingOptions, ServingTask,
};

use crate::api::{Api, Asked, not_found, status};

const LIMIT: Duration = Duration::from_mins(1);

fn names(ip: &str) -> ServingNames {
    ServingNames {
        hosts: ["outrigger".to_owned()].into(),
        ips: [ip.parse::<IpAddr>().unwrap()].into(),
    }
}

/// A task that ends with the test.
struct Running {
    handle: ServingHandle,
    names: watch::Sender<ServingNames>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(cluster: &Cluster, source: CertificateSource, file: Option<CertificateFile>, ip: &str) -> Self {
        let options = ServingOptions {
            node: "outrigger".to_owned(),
            source,
            file,
        };
        let (sender, receiver) = watch::channel(names(ip));
        let (handle, task) = ServingTask::new(cluster.clone(), options, receiver).unwrap();
        Self {
            handle,
            names: sender,
            task: tokio::spawn(task.run()),
        }
    }

    /// Waits until this is told.
    async fn until(&self, what: &str, told: impl FnMut(&Option<ServingWord>) -> bool) -> Option<ServingWord> {
        let mut words = self.handle.word();
        let waited = tokio::time::timeout(LIMIT, words.wait_for(told)).await;
        let Ok(found) = waited else {
            panic!("{what}: {:?}", self.handle.word().borrow());
        };
        found.unwrap().clone()
    }

    async fn until_reason(&self, reason: &str) {
        let says = |word: &Option<ServingWord>| {
            word.as_ref()
                .is_some_and(|word| word.condition().reason == reason)
        };
        self.until(reason, says).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An authority that signs a request for a time around now, in seconds.
fn sign(issuer: &Issuer<'_, KeyPair>, request: &Value, from: i64, until: i64) -> String {
    let pem = STANDARD
        .decode(request["spec"]["request"].as_str().unwrap())
        .unwrap();
    let mut request = CertificateSigningRequestParams::from_pem(std::str::from_utf8(&pem).unwrap()).unwrap();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |seconds: i64| {
        let seconds = Timestamp::now().as_second() + seconds;
        epoch + Duration::from_secs(u64::try_from(seconds).unwrap())
    };
    (request.params.not_before, request.params.not_after) = (at(from), at(until));
    STANDARD.encode(request.signed_by(issuer).unwrap().pem())
}

fn authority() -> Issuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    Issuer::new(params, KeyPair::generate().unwrap())
}

/// An API server that keeps one request and answers what became of it: the certificate or condition of `outcome`, by how many were filed.
fn requests(
    outcome: impl Fn(usize, &Value) -> Value + Send + Sync + 'static,
) -> impl Fn(&Asked) -> (u16, Value) + Send + Sync {
    let filed = AtomicUsize::new(0);
    let last = std::sync::Mutex::new(Value::Null);
    move |asked| {
        let mut last = last.lock().unwrap();
        if asked.method == "POST" {
            let number = filed.fetch_add(1, Ordering::SeqCst) + 1;
            let mut request = asked.body.clone();
            let name = format!(
                "{}{number}",
                request["metadata"]["generateName"].as_str().unwrap()
            );
            request["metadata"] = json!({"name": name, "uid": format!("u{number}")});
            request["status"] = outcome(number, &request);
            *last = request.clone();
            return (201, request);
        }
        match last["metadata"]["name"].as_str() {
            Some(name) if asked.path.ends_with(&format!("/{name}")) => (200, last.clone()),
            _ => not_found(),
        }
    }
}

fn condition(kind: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": "Because", "message": "of this"})
}

#[tokio::test]
async fn a_certificate_is_renewed_in_time_and_serves_to_its_end() {
    let issuer = authority();
    let api = Api::start(requests(move |number, request| match number {
        // Most of its life is over, so the next is due at once.
        1 => json!({"conditions": [condition("Approved")], "certificate": sign(&issuer, request, -1_000, 6)}),
        _ => json!({"conditions": [condition("Denied")]}),
    }))
    .await;
    let running = Running::start(&api.cluster, CertificateSource::Cluster, None, "192.0.2.7");
    assert_eq!(*running.handle.word().borrow(), None, "nothing is known yet");
    running.until_reason("Issued").await;
    running.until_reason("RenewalDue").await;
    running.until_reason("Denied").await;
    let asked = api.writes();
    let spec = &asked[0].body["spec"];
    assert_eq!(spec["signerName"], "kubernetes.io/kubelet-serving");
    assert_eq!(spec["usages"], json!(["digital signature", "server auth"]));
    assert!(
        asked.iter().all(|asked| asked.user.is_empty()),
        "as the account itself"
    );
    assert_ne!(
        asked[0].body["spec"]["request"], asked[1].body["spec"]["request"],
        "a key for each"
    );
}

#[tokio::test]
async fn what_cannot_be_used_is_told_and_asked_for_again() {
    let issuer = authority();
    let other = rcgen::generate_simple_self_signed(vec!["outrigger".to_owned()]).unwrap();
    let other = STANDARD.encode(other.cert.pem());
    let api = Api::start(requests(move |number, request| {
        let certificate = match number {
            1 => json!(other),
            2 => json!(sign(&issuer, request, -1_000, -10)),
            _ => json!(sign(&issuer, request, -10, 1_000)),
        };
        json!({"conditions": [condition("Approved")], "certificate": certificate})
    }))
    .await;
    let running = Running::start(&api.cluster, CertificateSource::Cluster, None, "192.0.2.7");
    running.until_reason("Unusable").await;
    running.until_reason("Issued").await;
    assert_eq!(api.writes().len(), 3);
}

#[tokio::test]
async fn who_may_not_ask_serves_a_certificate_of_its_own_and_says_so() {
    let api = Api::start(|_| status(403, "Forbidden", "no such right")).await;
    let running = Running::start(&api.cluster, CertificateSource::Cluster, None, "192.0.2.7");
    running.until_reason("NotAsked").await;
    let word = running.handle.word().borrow().clone();
    let condition = word.unwrap().condition();
    assert!(
        condition.message.contains("no such right"),
        "{}",
        condition.message
    );

    let own = Running::start(&api.cluster, CertificateSource::Own, None, "192.0.2.7");
    own.until_reason("Configured").await;
}
