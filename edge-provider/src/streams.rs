//! How the kubelet API reaches containers: the pods of a node, and streams to their devices through the hub.
//!
//! * [`PodTable`]: the pods of all nodes of the process, written by each node's pump.
//! * [`HubStreams`]: one node's pods for the kubelet API. `choice`: which device answers for a pod that many run.
//!   `figures`: what a device uses.

mod choice;
mod figures;
mod table;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edge_protocol::v1::{LogQuery, LogSource as Source, Stdio, StreamRefusal, StreamRequest};
use edge_protocol::{DeviceId, PodUid};
use edge_provider_translate::annotations::DEVICE;
use edge_streams::Limits;
use edge_streams::remote_command::{Options, Running};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use iot_hub_client::api::StreamCall;
use iot_hub_client::{
    ClientError, HubClient, LogError, LogPart, LogReader, LogTarget, StreamError, StreamPipe,
};
use virtual_kubelet_api::stats::Summary;
use virtual_kubelet_api::{
    BytePipe, ContainerTarget, LogOptions, LogSource, LogStream, Pod, PodStreams, PodTarget, StreamsError,
    User,
};

pub use table::{NodePods, PodTable};

/// What a client hears when its command's streams end and the device told no outcome.
const LOST: &str = "the link to the device was lost; whether the command goes on there is not known";

/// How old figures may be: a scraper comes every 15 s, and wants to see that something has changed.
const FRESH: Duration = Duration::from_secs(10);
/// How long a link may be away in the middle of a log. A hub that is upgraded and a device that boots are back by then.
const PATIENCE: Duration = Duration::from_mins(5);

/// Who answers for the pods of a node.
#[derive(Debug, Clone)]
pub enum Answers {
    /// The one device that the node stands for.
    Device(DeviceId),
    /// One of those that run the pod.
    OneOfMany,
}

/// One node's pods, for the kubelet API.
pub struct HubStreams {
    pub node: String,
    pub answers: Answers,
    pub pods: PodTable,
    pub hub: HubClient,
}

impl HubStreams {
    async fn device(&self, pod: &PodTarget) -> Result<DeviceId, StreamsError> {
        match &self.answers {
            Answers::Device(device) => Ok(device.clone()),
            Answers::OneOfMany => {
                let wish = self.pods.get(&self.node, &pod.namespace, &pod.name);
                let wish = wish.and_then(|pod| pod.annotation(DEVICE).map(str::to_owned));
                let unknown = |error: ClientError| StreamsError::Unavailable {
                    message: format!("which devices run the pod is not known: {error}"),
                };
                let uid = uid(pod)?;
                match wish {
                    Some(wish) => {
                        let assignments = self.hub.assignments(&uid).await.map_err(unknown)?;
                        choice::named(&assignments.items, &wish)
                    }
                    None => choice::chosen(self.hub.deployment(&uid).await.map_err(unknown)?.status.answers),
                }
            }
        }
    }

    async fn open(
        &self,
        pod: &PodTarget,
        who: &User,
        request: impl FnOnce(PodUid) -> StreamRequest,
    ) -> Result<StreamPipe, StreamsError> {
        let device = self.device(pod).await?;
        let call = StreamCall {
            request: request(uid(pod)?),
            user: Some(who.name.clone()),
        };
        let opened = self.hub.open_stream(&device, &call).await;
        opened.map_err(|error| refused(&error))
    }
}

fn uid(pod: &PodTarget) -> Result<PodUid, StreamsError> {
    PodUid::new(pod.uid.clone()).map_err(|error| StreamsError::NotFound {
        message: format!("pod {}/{} has no UID: {error}", pod.namespace, pod.name),
    })
}

fn stdio(options: Options) -> Stdio {
    Stdio {
        stdin: options.stdin,
        stdout: options.stdout,
        stderr: options.stderr,
        tty: options.tty,
    }
}

fn query(options: &LogOptions) -> LogQuery {
    LogQuery {
        follow: options.follow,
        previous: options.previous,
        timestamps: options.timestamps,
        tail_lines: options.tail_lines,
        since_seconds: options.since_seconds,
        since_ms: options.since_time.map(jiff::Timestamp::as_millisecond),
        limit_bytes: options.limit_bytes,
        source: match options.source {
            LogSource::All => None,
            LogSource::Stdout => Some(Source::Stdout),
            LogSource::Stderr => Some(Source::Stderr),
        },
        after: None,
        // A kubelet's ends with its container.
        through_restarts: false,
    }
}

fn refused(error: &StreamError) -> StreamsError {
    let message = chain(error);
    match error {
        StreamError::Call(_) | StreamError::Lost { .. } => StreamsError::Unavailable { message },
        StreamError::Refused { why, .. } => match why {
            StreamRefusal::NotFound => StreamsError::NotFound { message },
            StreamRefusal::NotRunning => StreamsError::NotRunning { message },
            StreamRefusal::Forbidden => StreamsError::Forbidden { message },
            StreamRefusal::Busy | StreamRefusal::TooMany => StreamsError::Busy { message },
            StreamRefusal::Failed => StreamsError::Failed { message },
            StreamRefusal::NotConnected | StreamRefusal::Unanswered => StreamsError::Unavailable { message },
            StreamRefusal::Unsupported | StreamRefusal::NoStreams | StreamRefusal::Unknown => {
                StreamsError::Unsupported { message }
            }
        },
    }
}

fn cut(error: &LogError) -> StreamsError {
    let message = chain(error);
    match error {
        LogError::Failed { .. } | LogError::Garbled { .. } => StreamsError::Failed { message },
        LogError::Cut { .. } => StreamsError::Unavailable { message },
    }
}

/// An error with all its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A log that has begun, until its end or an error.
fn told(reader: LogReader) -> BoxStream<'static, Result<Bytes, StreamsError>> {
    let next = |reader: Option<LogReader>| async {
        let mut reader = reader?;
        loop {
            match reader.next().await {
                Ok(Some(LogPart::Text(text))) => return Some((Ok(Bytes::from(text)), Some(reader))),
                Ok(Some(LogPart::Cut)) => {}
                Ok(None) => return None,
                Err(error) => return Some((Err(cut(&error)), None)),
            }
        }
    };
    stream::unfold(Some(reader), next).boxed()
}

impl PodStreams for HubStreams {
    fn pod(&self, namespace: &str, name: &str) -> Option<Pod> {
        let pod = self.pods.get(&self.node, namespace, name)?;
        Some(Arc::new(pod.raw.clone()))
    }

    fn pods(&self) -> Vec<Pod> {
        let pods = self.pods.of_node(&self.node);
        pods.iter().map(|pod| Arc::new(pod.raw.clone())).collect()
    }

    fn running_pods(&self) -> BoxFuture<'_, Result<Vec<Pod>, StreamsError>> {
        let pods = self.pods.running(&self.node);
        let pods = pods.iter().map(|pod| Arc::new(pod.raw.clone())).collect();
        Box::pin(async { Ok(pods) })
    }

    fn exec(
        &self,
        target: ContainerTarget,
        command: Vec<String>,
        options: Options,
        who: Arc<User>,
    ) -> BoxFuture<'_, Result<Running, StreamsError>> {
        Box::pin(async move {
            let request = |uid| StreamRequest::Exec {
                uid,
                container: target.container,
                command,
                stdio: stdio(options),
            };
            let pipe = self.open(&target.pod, &who, request).await?;
            Ok(Running::over_pipe(pipe, options, Limits::default()))
        })
    }

    fn attach(
        &self,
        target: ContainerTarget,
        options: Options,
        who: Arc<User>,
    ) -> BoxFuture<'_, Result<Running, StreamsError>> {
        Box::pin(async move {
            let request = |uid| StreamRequest::Attach {
                uid,
                container: target.container,
                stdio: stdio(options),
            };
            let pipe = self.open(&target.pod, &who, request).await?;
            Ok(Running::over_pipe(pipe, options, Limits::default()))
        })
    }

    fn port_forward(
        &self,
        pod: PodTarget,
        port: u16,
        who: Arc<User>,
    ) -> BoxFuture<'_, Result<Box<dyn BytePipe>, StreamsError>> {
        Box::pin(async move {
            let request = |uid| StreamRequest::PortForward { uid, port };
            let pipe = self.open(&pod, &who, request).await?;
            Ok(Box::new(pipe) as Box<dyn BytePipe>)
        })
    }

    fn logs(
        &self,
        target: ContainerTarget,
        options: LogOptions,
        who: Arc<User>,
    ) -> BoxFuture<'_, Result<LogStream, StreamsError>> {
        Box::pin(async move {
            let whose = LogTarget {
                device: self.device(&target.pod).await?,
                uid: uid(&target.pod)?,
                container: target.container,
                patience: PATIENCE,
            };
            let reader = self
                .hub
                .logs(whose, query(&options), Some(who.name.clone()))
                .await;
            Ok(told(reader.map_err(|error| refused(&error))?))
        })
    }

    fn stats(&self) -> BoxFuture<'_, Result<Arc<Summary>, StreamsError>> {
        Box::pin(async {
            let Answers::Device(device) = &self.answers else {
                return Err(StreamsError::Unsupported {
                    message:
                        "the figures of a fleet are not told yet; those of a device are, by its own node"
                            .to_owned(),
                });
            };
            let told = self.hub.device_stats(device, FRESH).await;
            let told = told.map_err(|error| StreamsError::Unavailable {
                message: chain(&error),
            })?;
            let pods = self.pods.of_node(&self.node);
            let running = self.pods.running_containers(&self.node);
            Ok(Arc::new(figures::summary(&self.node, &told, &pods, &running)))
        })
    }

    fn lost(&self) -> &'static str {
        LOST
    }
}
