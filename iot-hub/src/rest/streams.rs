//! `/devices/{id}/streams`: what a device does while the caller looks on, over a WebSocket.
//!
//! The caller says what it wants, the hub has the device asked for it and tells its answer; from then on bytes pass, and nobody here looks into them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use edge_protocol::DeviceId;
use edge_protocol::v1::stream::MAX_COMMAND;
use edge_protocol::v1::{Operator, StreamAnswer, StreamRefusal, StreamRequest, Ticket};
use edge_protocol::{PodUid, text};
use edge_streams::websocket::Pipe;
use futures_util::{SinkExt as _, StreamExt as _};
use iot_hub_api::{MAX_STREAM_CALL, Problem, ProblemCode, STREAM_PROTOCOL, StreamCall};
use iot_hub_core::StreamAsk;
use iot_hub_store::AuditRecord;
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::tungstenite::Message;

use super::auth::Caller;
use super::change::audit;
use super::problem::{Path, Refusal};
use super::{Api, view};
use crate::grant::Principal;
use crate::pump::{Asked, PumpGone, PumpHandle};
use crate::serve::upgrade::{Socket, WebSocketUpgrade};
use crate::tunnel::DeviceStream;
use crate::watched::{Activity, Watched};

/// How long a caller may take to say what it wants, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// A stream on which nothing passes for this long ends, as under a kubelet (`streamingConnectionIdleTimeout`).
const IDLE: Duration = Duration::from_hours(4);

/// A stream to a device: a WebSocket of the subprotocol `outrigger.stream.v1`.
///
/// The client's first message is a `StreamCall`, the hub's first a `StreamAnswer`, both JSON in a text message. After `begun` binary messages are bytes,
/// and an empty one ends its direction.
#[utoipa::path(get, path = "/api/v1/devices/{id}/streams", tag = "devices", params(("id" = String, Path, description = "Device id")),
    responses(
        (status = 101, description = "The connection is a WebSocket from here on; this is its first message from the hub", body = StreamAnswer),
        (status = 400, description = "No WebSocket of this subprotocol", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The token has not the right to open streams", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such device in scope", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many streams are open", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn open(
    State(api): State<Api>,
    caller: Caller,
    Path(device): Path<DeviceId>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    caller.principal.require_streams()?;
    let missing = Refusal::new(ProblemCode::NoSuchDevice, format!("there is no device {device}"));
    let id = device.clone();
    let found = api.pump.read(move |reading| reading.hub.device(&id)).await?;
    found
        .map(view::device)
        .filter(|device| caller.principal.sees(device))
        .ok_or(missing)?;
    if !upgrade.offers(STREAM_PROTOCOL) {
        let detail = format!("ask for the subprotocol {STREAM_PROTOCOL}");
        return Err(Refusal::new(ProblemCode::BadRequest, detail));
    }
    let place = Arc::clone(&api.streams).try_acquire_owned();
    let place = place.map_err(|_| Refusal::new(ProblemCode::TooManyRequests, "too many streams are open"))?;
    let session = Session {
        principal: caller.principal.clone(),
        api,
        device,
        _place: place,
    };
    let config = edge_streams::websocket::config()
        .max_message_size(Some(MAX_STREAM_CALL))
        .max_frame_size(Some(MAX_STREAM_CALL));
    Ok(upgrade.agree(Some(STREAM_PROTOCOL), config, |socket| session.serve(socket)))
}

/// The process that holds the device's session, and so can order streams of it. With several hubs on one store this is where the store is asked whose it
/// is, and another's stream passed through; one hub alone holds them all.
fn holder<'a>(api: &'a Api, _device: &DeviceId) -> &'a PumpHandle {
    &api.pump
}

/// Why there is no stream, as the caller is told.
type Refused = (StreamRefusal, String);

/// One caller on one WebSocket.
struct Session {
    api: Api,
    principal: Principal,
    device: DeviceId,
    _place: OwnedSemaphorePermit,
}

impl Session {
    async fn serve(self, mut socket: Socket) {
        let Ok(Some(call)) = tokio::time::timeout(PATIENCE, call(&mut socket)).await else {
            return tracing::debug!(device = %self.device, "a caller did not say which stream it wants");
        };
        let about = about(&self.device, &call);
        let begun = tokio::select! {
            begun = self.begin(call, &about) => begun,
            () = gone(&mut socket) => return,
            () = self.api.stop.cancelled() => Err((StreamRefusal::NotConnected, PumpGone.to_string())),
        };
        match begun {
            Ok((asked, stream)) => {
                if say(&mut socket, &StreamAnswer::Begun).await {
                    self.carry(socket, asked, stream, &about).await;
                }
            }
            Err((why, message)) => {
                tracing::info!(principal = self.principal.name, about, ?why, message, "no stream");
                self.api.stream_metrics.refused(why);
                if say(&mut socket, &StreamAnswer::Refused { why, message }).await {
                    drop(tokio::time::timeout(PATIENCE, socket.close(None)).await);
                }
            }
        }
    }

    /// Has the device asked, and waits for its answer.
    async fn begin(&self, call: StreamCall, about: &str) -> Result<(Asked, DeviceStream), Refused> {
        let StreamCall { request, user } = call;
        check(&request)?;
        self.check_pod(&request).await?;
        let stopping = |gone: PumpGone| (StreamRefusal::NotConnected, gone.to_string());
        let ask = StreamAsk {
            device: self.device.clone(),
            operator: Operator {
                principal: self.principal.name.clone(),
                user: user.as_deref().map(text::sanitise),
            },
            request,
            ticket: Ticket::from_bytes(rand::random()),
        };
        let cause: AuditRecord = audit(&self.principal, "open-stream", about.to_owned());
        let asked = holder(&self.api, &self.device).ask(ask, cause).await;
        let mut asked = asked.map_err(stopping)?;
        let brought = asked.brought().await.map_err(stopping)?;
        let brought = brought.map_err(|end| (end.refusal(), end.to_string()))?;
        match brought.answer {
            StreamAnswer::Begun => Ok((asked, brought.stream)),
            StreamAnswer::Refused { why, message } => Err((why, message)),
            StreamAnswer::Unknown => Err((
                StreamRefusal::Unknown,
                format!(
                    "device {} answers in a way that this hub does not know",
                    self.device
                ),
            )),
        }
    }

    /// Whose pod it is: one of another cluster or node is as good as none.
    async fn check_pod(&self, request: &StreamRequest) -> Result<(), Refused> {
        let Some(uid) = uid(request).cloned() else {
            return Ok(());
        };
        let missing = (StreamRefusal::NotFound, format!("there is no pod {uid}"));
        let source = self.api.pump.read(move |reading| {
            let found = reading.hub.deployment(&uid);
            found.map(|view| view.record.spec.source)
        });
        let source = source
            .await
            .map_err(|gone| (StreamRefusal::NotConnected, gone.to_string()))?;
        let own = match source {
            Some(source) => self.principal.owns(&source),
            None => self.principal.owns_all(),
        };
        if own { Ok(()) } else { Err(missing) }
    }

    /// Passes bytes until both sides have ended, one fails, or the machine cuts the stream.
    async fn carry(&self, socket: Socket, mut asked: Asked, stream: DeviceStream, about: &str) {
        let _open = self.api.stream_metrics.open();
        let stream = Watched::new(stream);
        let activity = stream.activity();
        let why = tokio::select! {
            passed = edge_streams::splice(Pipe::new(socket), stream) => match passed {
                Ok(_) => "both sides ended it".to_owned(),
                Err(error) => error.to_string(),
            },
            cut = asked.cut() => match cut {
                Ok(end) => end.to_string(),
                Err(gone) => gone.to_string(),
            },
            () = idle(&activity) => "nothing passed for too long".to_owned(),
            () = self.api.stop.cancelled() => PumpGone.to_string(),
        };
        let (from_device, to_device) = activity.bytes();
        self.api.stream_metrics.moved((from_device, to_device));
        tracing::info!(
            principal = self.principal.name,
            about,
            why,
            from_device,
            to_device,
            seconds = activity.age().as_secs(),
            "a stream ended"
        );
    }
}

/// What the caller wants; `None` if it leaves, or says anything else.
async fn call(socket: &mut Socket) -> Option<StreamCall> {
    loop {
        match socket.next().await?.ok()? {
            Message::Text(text) => {
                let call = serde_json::from_str(&text);
                return call
                    .inspect_err(|error| tracing::debug!(%error, "no call of a stream"))
                    .ok();
            }
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Binary(_) | Message::Close(_) | Message::Frame(_) => return None,
        }
    }
}

/// Returns when the caller leaves, or speaks although it has not been answered.
async fn gone(socket: &mut Socket) {
    while let Some(Ok(Message::Ping(_) | Message::Pong(_))) = socket.next().await {}
}

/// Whether the caller took the answer.
async fn say(socket: &mut Socket, answer: &StreamAnswer) -> bool {
    let text = serde_json::to_string(answer).expect("an answer has only string keys");
    let said = tokio::time::timeout(PATIENCE, socket.send(Message::text(text))).await;
    matches!(said, Ok(Ok(())))
}

async fn idle(activity: &Activity) {
    while let Some(left) = IDLE
        .checked_sub(activity.idleness())
        .filter(|left| !left.is_zero())
    {
        tokio::time::sleep(left).await;
    }
}

/// What no device could do.
fn check(request: &StreamRequest) -> Result<(), Refused> {
    match request {
        StreamRequest::Exec { command, .. } if command.is_empty() => Err((
            StreamRefusal::Failed,
            "you must specify at least one command".to_owned(),
        )),
        StreamRequest::Exec { command, .. }
            if command.iter().map(String::len).sum::<usize>() > MAX_COMMAND =>
        {
            let message = format!("the command's arguments exceed {MAX_COMMAND} bytes");
            Err((StreamRefusal::Failed, message))
        }
        StreamRequest::Unknown => Err((
            StreamRefusal::Unsupported,
            "this hub does not know such streams".to_owned(),
        )),
        _ => Ok(()),
    }
}

fn uid(request: &StreamRequest) -> Option<&PodUid> {
    match request {
        StreamRequest::Exec { uid, .. }
        | StreamRequest::Attach { uid, .. }
        | StreamRequest::PortForward { uid, .. }
        | StreamRequest::Logs { uid, .. } => Some(uid),
        StreamRequest::Unknown => None,
    }
}

/// The stream in one line, for the audit: bounded, and nothing that passes through it.
fn about(device: &DeviceId, call: &StreamCall) -> String {
    let what = match &call.request {
        StreamRequest::Exec {
            uid,
            container,
            command,
            ..
        } => format!("exec in {container:?} of pod {uid}: {command:?}"),
        StreamRequest::Attach { uid, container, .. } => format!("attach to {container:?} of pod {uid}"),
        StreamRequest::PortForward { uid, port } => format!("port {port} of pod {uid}"),
        StreamRequest::Logs { uid, container, .. } => format!("logs of {container:?} of pod {uid}"),
        StreamRequest::Unknown => "a stream of an unknown kind".to_owned(),
    };
    let user = call.user.as_deref().map(text::sanitise);
    let user = user.map(|user| format!(" for {user:?}")).unwrap_or_default();
    text::sanitise(&format!("{device}{user}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audit_of_a_stream_is_bounded_and_clean() {
        let device = DeviceId::new("press-7").unwrap();
        let exec = |command: &[&str]| StreamCall {
            request: StreamRequest::Exec {
                uid: PodUid::new("u1").unwrap(),
                container: "main".to_owned(),
                command: command.iter().map(ToString::to_string).collect(),
                stdio: edge_protocol::v1::Stdio::default(),
            },
            user: Some("ada\n".to_owned()),
        };
        let line = about(&device, &exec(&["sh", "-c", "echo 'a\u{1b}'"]));
        assert!(line.starts_with("press-7 for "), "{line}");
        assert!(
            line.contains(r#"exec in "main" of pod u1: ["sh", "-c", "#),
            "{line}"
        );
        let line = about(&device, &exec(&vec!["\u{1b}\n"; 5_000]));
        assert!(line.len() <= text::MAX_TEXT && !line.chars().any(char::is_control));
    }

    #[test]
    fn what_no_device_could_do_is_refused_here() {
        let exec = |command: Vec<String>| StreamRequest::Exec {
            uid: PodUid::new("u1").unwrap(),
            container: "main".to_owned(),
            command,
            stdio: edge_protocol::v1::Stdio::default(),
        };
        for (request, expected) in [
            (exec(vec!["true".to_owned()]), None),
            (exec(vec![]), Some(StreamRefusal::Failed)),
            (exec(vec!["x".repeat(MAX_COMMAND)]), None),
            (
                exec(vec!["x".repeat(MAX_COMMAND), "y".to_owned()]),
                Some(StreamRefusal::Failed),
            ),
            (StreamRequest::Unknown, Some(StreamRefusal::Unsupported)),
        ] {
            assert_eq!(check(&request).err().map(|(why, _)| why), expected);
        }
    }
}
