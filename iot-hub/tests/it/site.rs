//! A hub of one test: own directory, ports chosen by the system.

use std::path::{Path, PathBuf};
use std::time::Duration;

use edge_protocol::PodUid;
use edge_protocol::sealing::{ContentKey, RootSecret, SealingScope};
use edge_protocol::v1::object::kind;
use edge_protocol::v1::{
    Blob, ContainerSpec, DeploymentSpec, EnrolmentToken, Manifest, ObjectData, ObjectRef, ReadyPolicy,
    Source, TargetSpec, VERSION, WorkloadSpec,
};
use iot_hub::ca::CaFiles;
use iot_hub::grant::{Grant, Role};
use iot_hub::{Addresses, Options, RunError, build, token};
use iot_hub_client::api::{CreateEnrolmentToken, PutDeployment};
use iot_hub_client::{ApiToken, ClientOptions, HubClient};
use iot_hub_store::{HubStore as _, SqliteStore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Five times what a bench would demand; reached only when something is wrong.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits for what must happen.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"))
}

pub struct Site {
    directory: tempfile::TempDir,
    pub addresses: Addresses,
    pub anchors: String,
    stop: CancellationToken,
    running: JoinHandle<Result<(), RunError>>,
}

pub fn state_dir(directory: &Path) -> PathBuf {
    directory.join("state")
}

pub fn ca_dir(directory: &Path) -> PathBuf {
    directory.join("ca")
}

impl Site {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        CaFiles::init(&ca_dir(directory.path())).unwrap();
        Self::start_in(directory).await
    }

    async fn start_in(directory: tempfile::TempDir) -> Self {
        let options = Options::local(state_dir(directory.path()), ca_dir(directory.path()));
        let bound = build(options).await.unwrap();
        let (addresses, anchors) = (bound.addresses(), bound.anchors().to_owned());
        let stop = CancellationToken::new();
        let running = tokio::spawn(bound.run(stop.clone()));
        Self {
            directory,
            addresses,
            anchors,
            stop,
            running,
        }
    }

    /// Stops cleanly and starts anew on the same store, on other ports.
    pub async fn restart(self) -> Self {
        let Self {
            directory,
            stop,
            running,
            ..
        } = self;
        stop.cancel();
        within("a clean stop", running).await.unwrap().unwrap();
        Self::start_in(directory).await
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn ca(&self) -> CaFiles {
        CaFiles::load(&ca_dir(self.directory())).unwrap()
    }

    pub async fn store(&self) -> SqliteStore {
        SqliteStore::open(&state_dir(self.directory()).join("hub.db"))
            .await
            .unwrap()
    }

    /// A client whose token carries this grant.
    pub async fn client(&self, grant: Grant) -> HubClient {
        let (record, token) = token::api("tester", &grant);
        let store = self.store().await;
        store.put_api_token(&record).await.unwrap();
        store.close().await;
        self.client_with(&token)
    }

    pub async fn admin(&self) -> HubClient {
        self.client(Grant::unrestricted(Role::Admin)).await
    }

    pub fn client_with(&self, token: &str) -> HubClient {
        let options = ClientOptions::new(self.rest_url(), self.anchors.clone(), ApiToken::new(token));
        HubClient::new(options).unwrap()
    }

    pub fn rest_url(&self) -> String {
        format!("https://{}", self.addresses.rest)
    }

    pub async fn enrolment_token(&self, ask: CreateEnrolmentToken) -> EnrolmentToken {
        self.admin()
            .await
            .create_enrolment_token(&ask)
            .await
            .unwrap()
            .token
            .parse()
            .unwrap()
    }
}

pub fn source() -> Source {
    Source {
        cluster_uid: "cluster-1".into(),
        node: "outrigger".into(),
    }
}

pub fn uid(text: &str) -> PodUid {
    PodUid::new(text).unwrap()
}

/// A deployment of one container for every device that meets the condition.
pub fn deployment(id: &str, condition: &str) -> DeploymentSpec {
    let container = ContainerSpec::new("main", "example/app:1");
    let manifest = Manifest {
        v: VERSION,
        uid: uid(id),
        namespace: "default".into(),
        name: id.into(),
        labels: [].into(),
        annotations: [].into(),
        workload: WorkloadSpec::new(id, vec![container]),
        objects: vec![],
        requires: vec![],
        replaces: vec![],
    };
    DeploymentSpec {
        uid: uid(id),
        source: source(),
        node_uid: None,
        namespace: "default".into(),
        name: id.into(),
        owner: None,
        target: TargetSpec {
            condition: condition.into(),
            scope: "*".into(),
        },
        ready_policy: ReadyPolicy::All,
        manifest: serde_json::to_string(&manifest).unwrap(),
    }
}

/// The same deployment with one more object, a config map of one text in clear.
pub fn with_config(spec: DeploymentSpec, name: &str, text: &str) -> PutDeployment {
    let data = ObjectData {
        v: VERSION,
        kind: kind::CONFIG_MAP.into(),
        name: name.into(),
        text: [("key".to_owned(), text.to_owned())].into(),
        binary: [].into(),
    };
    let body = serde_json::to_string(&data).unwrap();
    with_object(spec, data, body, false)
}

/// The same deployment with one more object, a secret of one text, sealed; and its key.
pub fn with_secret(spec: DeploymentSpec, root: &RootSecret, text: &str) -> (PutDeployment, ContentKey) {
    let scope = SealingScope {
        cluster: spec.source.cluster_uid.clone(),
        namespace: spec.namespace.clone(),
    };
    let data = ObjectData {
        v: VERSION,
        kind: kind::SECRET.into(),
        name: "db".into(),
        text: [("password".to_owned(), text.to_owned())].into(),
        binary: [].into(),
    };
    let sealed = root.seal(&scope, &data);
    (with_object(spec, data, sealed.body, true), sealed.key)
}

fn with_object(spec: DeploymentSpec, data: ObjectData, body: String, sealed: bool) -> PutDeployment {
    let blob = Blob::new(body);
    let mut manifest: Manifest = serde_json::from_str(&spec.manifest).unwrap();
    manifest.objects.push(ObjectRef {
        kind: data.kind,
        name: data.name,
        digest: blob.digest,
        sealed,
    });
    PutDeployment {
        spec: DeploymentSpec {
            manifest: serde_json::to_string(&manifest).unwrap(),
            ..spec
        },
        objects: vec![blob],
    }
}
