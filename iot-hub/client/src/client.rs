//! One method per route of `/api/v1`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use edge_protocol::v1::LogQuery;
use edge_protocol::v1::{DeploymentSpec, KeyWrap, LinkClass, Source, TombstoneReason};
use edge_protocol::{DeviceId, PodUid};
use iot_hub_api::{
    Assignment, AuditEntry, CreateEnrolmentToken, Deployment, Device, DeviceEventRecord, DeviceState,
    DeviceStats, DeviceWorkload, EnrolmentTokenCreated, EnrolmentTokenInfo, ForgetDevice, KeyWraps,
    LinkUpdate, List, Problem, PutDeployment, Revision, StateUpdate, StreamCall, TagsUpdate, WantedKeys,
};
use reqwest::{Method, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ClientError;
use crate::logs::{LogReader, LogTarget};
use crate::options::ClientOptions;
use crate::stream::{self, StreamError, StreamPipe};
use crate::watch::Watch;

/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 512 << 20;

/// How long an unused connection is kept.
const POOL_IDLE: Duration = Duration::from_secs(15);

/// Which events to list; without a field, those of all that the caller may see.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    pub device: Option<DeviceId>,
    pub deployment: Option<PodUid>,
}

/// A client of one hub. Cloning is cheap; clones share connections.
#[derive(Debug, Clone)]
pub struct HubClient {
    http: reqwest::Client,
    pub(crate) options: Arc<ClientOptions>,
}

impl HubClient {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError::Options`] when the URL is not `https://…`, or the trusted certificates are none or not readable.
    pub fn new(options: ClientOptions) -> Result<Self, ClientError> {
        if !options.url.starts_with("https://") {
            return Err(ClientError::Options {
                option: "url",
                message: "it must begin with https://".to_owned(),
            });
        }
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(options.tls()?)
            .https_only(true)
            .connect_timeout(options.timeout)
            // Below the hub's own limit, so that no call goes into a connection that is being closed.
            .pool_idle_timeout(POOL_IDLE)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("outrigger/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ClientError::Options {
                option: "url",
                message: error.to_string(),
            })?;
        Ok(Self {
            http,
            options: Arc::new(options),
        })
    }

    /// All devices that the token may see.
    ///
    /// # Errors
    /// Every [`ClientError`], as with all methods here.
    pub async fn devices(&self) -> Result<List<Device>, ClientError> {
        self.get("/devices", &()).await
    }

    pub async fn device(&self, id: &DeviceId) -> Result<Device, ClientError> {
        self.get(&format!("/devices/{id}"), &()).await
    }

    /// Replaces all tags; deployments follow at once.
    pub async fn set_tags(&self, id: &DeviceId, tags: BTreeMap<String, String>) -> Result<(), ClientError> {
        self.put(&format!("/devices/{id}/tags"), &TagsUpdate { tags })
            .await
    }

    pub async fn set_link(&self, id: &DeviceId, link: LinkClass) -> Result<(), ClientError> {
        self.put(&format!("/devices/{id}/link"), &LinkUpdate { link })
            .await
    }

    /// Disables, enables or decommissions a device.
    pub async fn set_device_state(&self, id: &DeviceId, state: DeviceState) -> Result<(), ClientError> {
        self.put(&format!("/devices/{id}/state"), &StateUpdate { state })
            .await
    }

    /// What may run on the device, by the last that it acknowledged and all that it was told since.
    pub async fn device_workloads(&self, id: &DeviceId) -> Result<List<DeviceWorkload>, ClientError> {
        self.get(&format!("/devices/{id}/workloads"), &()).await
    }

    /// What the device and its workloads use, from a sample that is at most so old if one can be had within a few seconds; else from the newest.
    pub async fn device_stats(&self, id: &DeviceId, max_age: Duration) -> Result<DeviceStats, ClientError> {
        let age_ms = u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX);
        self.get(&format!("/devices/{id}/stats"), &[("max_age_ms", age_ms)])
            .await
    }

    /// Gives the id of a decommissioned device free. What its tombstones were to stop may run on there: calling this accepts it.
    pub async fn forget_device_with_running_workloads(&self, id: &DeviceId) -> Result<(), ClientError> {
        let path = format!("/devices/{id}/forget");
        let ask = ForgetDevice {
            accept_running_workloads: true,
        };
        let request = self.request(Method::POST, &path).json(&ask);
        self.done("POST", path, request).await
    }

    /// All deployments that the token may see, of one source or of all. Complete, or an error.
    pub async fn deployments(&self, source: Option<&Source>) -> Result<List<Deployment>, ClientError> {
        let query: Vec<(&str, &str)> = source
            .map(|source| {
                vec![
                    ("cluster_uid", source.cluster_uid.as_str()),
                    ("node", source.node.as_str()),
                ]
            })
            .unwrap_or_default();
        self.get("/deployments", &query).await
    }

    pub async fn deployment(&self, uid: &PodUid) -> Result<Deployment, ClientError> {
        self.get(&format!("/deployments/{uid}"), &()).await
    }

    /// Creates the deployment, replaces it, or confirms it when it is the same. Its manifest names no object that the hub does not have.
    pub async fn put_deployment(&self, spec: &DeploymentSpec) -> Result<(), ClientError> {
        self.put(&format!("/deployments/{}", spec.uid), spec).await
    }

    /// As [`put_deployment`](Self::put_deployment), with the bodies of the objects that its manifest names.
    pub async fn put_deployment_with(&self, put: &PutDeployment) -> Result<(), ClientError> {
        self.put(&format!("/deployments/{}", put.spec.uid), put).await
    }

    /// The content keys that devices wait for, of the deployments of the caller's sources; the first of them, if there are many.
    pub async fn wanted_keys(&self) -> Result<List<WantedKeys>, ClientError> {
        self.get("/wanted-keys", &()).await
    }

    /// Brings content keys for devices of the deployment.
    pub async fn put_keys(&self, uid: &PodUid, wraps: Vec<KeyWrap>) -> Result<(), ClientError> {
        self.put(&format!("/deployments/{uid}/keys"), &KeyWraps { wraps })
            .await
    }

    /// Tombstones to every device that may hold it. A repeat may shorten the grace period (seconds). A deployment that the
    /// hub does not know is a refusal with [`is_not_found`](ClientError::is_not_found).
    pub async fn delete_deployment(
        &self,
        uid: &PodUid,
        grace_period_s: Option<u32>,
    ) -> Result<(), ClientError> {
        self.delete_for(uid, grace_period_s, TombstoneReason::Deleted)
            .await
    }

    /// Ends a released deployment whose workloads still run as orphans: an operator's act.
    pub async fn remove_orphan(&self, uid: &PodUid, grace_period_s: Option<u32>) -> Result<(), ClientError> {
        self.delete_for(uid, grace_period_s, TombstoneReason::OrphanRemoved)
            .await
    }

    async fn delete_for(
        &self,
        uid: &PodUid,
        grace_period_s: Option<u32>,
        reason: TombstoneReason,
    ) -> Result<(), ClientError> {
        #[derive(Serialize)]
        struct Query {
            #[serde(skip_serializing_if = "Option::is_none")]
            grace: Option<u32>,
            reason: TombstoneReason,
        }
        let path = format!("/deployments/{uid}");
        let request = self.request(Method::DELETE, &path).query(&Query {
            grace: grace_period_s,
            reason,
        });
        self.done("DELETE", path, request).await
    }

    /// Keeps the workloads running as orphans: the pod is gone by no one's intent.
    pub async fn release_deployment(&self, uid: &PodUid) -> Result<(), ClientError> {
        let path = format!("/deployments/{uid}/release");
        let request = self.request(Method::POST, &path);
        self.done("POST", path, request).await
    }

    /// The deployment on each of its devices.
    pub async fn assignments(&self, uid: &PodUid) -> Result<List<Assignment>, ClientError> {
        self.get(&format!("/deployments/{uid}/assignments"), &()).await
    }

    /// The newest events first, at most 1,000.
    pub async fn events(&self, filter: &EventFilter) -> Result<List<DeviceEventRecord>, ClientError> {
        let mut query = Vec::new();
        query.extend(filter.device.as_ref().map(|id| ("device", id.as_str())));
        query.extend(filter.deployment.as_ref().map(|uid| ("deployment", uid.as_str())));
        self.get("/events", &query).await
    }

    /// Not idempotent: each call makes another token.
    pub async fn create_enrolment_token(
        &self,
        ask: &CreateEnrolmentToken,
    ) -> Result<EnrolmentTokenCreated, ClientError> {
        let path = "/enrolment-tokens";
        let request = self.request(Method::POST, path).json(ask);
        self.read("POST", path.to_owned(), request).await
    }

    pub async fn enrolment_tokens(&self) -> Result<List<EnrolmentTokenInfo>, ClientError> {
        self.get("/enrolment-tokens", &()).await
    }

    /// No device can enrol with it any more; devices that did are not touched.
    pub async fn revoke_enrolment_token(&self, id: &str) -> Result<(), ClientError> {
        let path = format!("/enrolment-tokens/{id}");
        let request = self.request(Method::DELETE, &path);
        self.done("DELETE", path, request).await
    }

    /// Who asked for which change, the newest first, at most 1,000.
    pub async fn audit(&self) -> Result<List<AuditEntry>, ClientError> {
        self.get("/audit", &()).await
    }

    /// Everything that changed after `from` and that the token may see, for ever. See [`Watch`].
    pub fn watch(&self, from: Revision) -> Watch {
        Watch::new(self.clone(), from)
    }

    /// Has the device do something while the caller looks on. The answer comes once the device has begun, within the hub's time for that (30 s) and the
    /// options' timeout. Nothing is repeated: a command runs once or not at all, unless the answer was [`Lost`](StreamError::Lost). Dropping the future
    /// takes the call back.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn open_stream(&self, id: &DeviceId, call: &StreamCall) -> Result<StreamPipe, StreamError> {
        stream::open(self, id, call).await
    }

    /// A container's log, as [`LogQuery`] asks for. The link may be cut meanwhile: the reader goes on where it was.
    ///
    /// # Errors
    /// [`StreamError`] when it cannot begin.
    pub async fn logs(
        &self,
        target: LogTarget,
        query: LogQuery,
        user: Option<String>,
    ) -> Result<LogReader, StreamError> {
        LogReader::open(self.clone(), target, query, user).await
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/api/v1{path}", self.options.url.trim_end_matches('/'));
        self.http
            .request(method, url)
            .bearer_auth(self.options.token.reveal())
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &(impl Serialize + ?Sized),
    ) -> Result<T, ClientError> {
        let request = self.request(Method::GET, path).query(query);
        self.read("GET", path.to_owned(), request).await
    }

    async fn put(&self, path: &str, body: &impl Serialize) -> Result<(), ClientError> {
        let request = self.request(Method::PUT, path).json(body);
        self.done("PUT", path.to_owned(), request).await
    }

    async fn read<T: DeserializeOwned>(
        &self,
        method: &'static str,
        path: String,
        request: RequestBuilder,
    ) -> Result<T, ClientError> {
        let response = self.send(method, &path, request).await?;
        let body = read_body(method, &path, response).await?;
        serde_json::from_slice(&body).map_err(|source| ClientError::Malformed { method, path, source })
    }

    /// A call whose success is 204 and nothing else, so that a proxy's friendly page is not taken for the hub's word.
    async fn done(
        &self,
        method: &'static str,
        path: String,
        request: RequestBuilder,
    ) -> Result<(), ClientError> {
        let response = self.send(method, &path, request).await?;
        match response.status().as_u16() {
            204 => Ok(()),
            status => Err(ClientError::NotTheHub { method, path, status }),
        }
    }

    async fn send(
        &self,
        method: &'static str,
        path: &str,
        request: RequestBuilder,
    ) -> Result<Response, ClientError> {
        let sent = request.timeout(self.options.timeout).send().await;
        let response = sent.map_err(|source| ClientError::Transport {
            method,
            path: path.to_owned(),
            source,
        })?;
        accept(method, path, response).await
    }
}

/// The response if it is a success, else the refusal that it carries.
pub(crate) async fn accept(
    method: &'static str,
    path: &str,
    response: Response,
) -> Result<Response, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let stranger = || ClientError::NotTheHub {
        method,
        path: path.to_owned(),
        status: status.as_u16(),
    };
    let is_problem = response
        .headers()
        .get(reqwest::header::CONTENT_TYPE)
        .is_some_and(|kind| {
            kind.as_bytes()
                .starts_with(iot_hub_api::problem::PROBLEM_JSON.as_bytes())
        });
    if !is_problem {
        return Err(stranger());
    }
    let body = read_body(method, path, response).await?;
    let problem: Problem = serde_json::from_slice(&body).map_err(|_| stranger())?;
    Err(ClientError::Refused {
        method,
        path: path.to_owned(),
        problem: Box::new(problem),
    })
}

async fn read_body(method: &'static str, path: &str, mut response: Response) -> Result<Vec<u8>, ClientError> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > MAX_ANSWER => {
                return Err(ClientError::TooLarge {
                    method,
                    path: path.to_owned(),
                    limit: MAX_ANSWER,
                });
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(source) => {
                return Err(ClientError::Transport {
                    method,
                    path: path.to_owned(),
                    source,
                });
            }
        }
    }
}
