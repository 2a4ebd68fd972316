//! port-forward: each connection that a client forwards is one connection to the pod.

use std::sync::Arc;

use edge_streams::negotiate::PortForwardProtocol;
use edge_streams::port_forward::{Forward, PortForwards};
use edge_streams::spdy::Session;
use edge_streams::websocket::Tunnel;
use edge_streams::{Limits, StreamError, splice};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::commands::{CREATION, IDLE};
use super::upgrade::{self, PortCarrier};
use super::{Asked, shortened};
use crate::answer::{Answer, Refusal};
use crate::pods;
use crate::provider::{Pod, PodTarget};
use crate::query::Query;
use crate::route::PodPath;
use crate::serve::{ServedNode, Visit};
use crate::user::User;

pub(super) fn answer(asked: &Asked<'_>, path: &PodPath, mut request: Request<Incoming>) -> Answer {
    let begun = || {
        let (carrier, upgrade) = upgrade::ports(&request)?;
        let ports = match carrier {
            PortCarrier::WebSocket(PortForwardProtocol::Channels(_)) => named(&asked.query)?,
            _ => Vec::new(),
        };
        let (pod, target) = asked.pod(path)?;
        Ok::<_, Refusal>((carrier, upgrade, ports, pod, target, asked.place()?))
    };
    let (carrier, upgrade, ports, pod, target, place) = match begun() {
        Ok(begun) => begun,
        Err(refused) => return refused.into(),
    };
    let forwarding = Forwarding {
        node: asked.node.clone(),
        pod,
        target,
        who: asked.who.clone(),
        visit: asked.visit.clone(),
    };
    let connection = upgrade::connection(&mut request);
    asked.visit.streams.spawn(async move {
        let _place = place;
        Arc::new(forwarding).serve(connection, carrier, &ports).await;
    });
    upgrade.answer()
}

/// The ports of a WebSocket with channels, by `NewV4Options` and in its words.
fn named(query: &Query) -> Result<Vec<u16>, Refusal> {
    let bad = |words: String| Refusal::new(StatusCode::BAD_REQUEST, words);
    let mut ports = Vec::new();
    for value in query.all("port").chain(query.all("ports")) {
        if value.is_empty() {
            return Err(bad("query parameter \"port\" cannot be empty".to_owned()));
        }
        for port in value.split(',') {
            match port.parse::<u16>() {
                Ok(0) => return Err(bad(format!("port {value:?} must be > 0"))),
                Ok(port) => ports.push(port),
                Err(error) => return Err(bad(format!("unable to parse {value:?} as a port: {error}"))),
            }
        }
    }
    if ports.is_empty() {
        return Err(bad("query parameter \"port\" is required".to_owned()));
    }
    Ok(ports)
}

/// What is forwarded to one pod for one client.
struct Forwarding {
    node: ServedNode,
    pod: Pod,
    target: PodTarget,
    who: Arc<User>,
    visit: Visit,
}

impl Forwarding {
    async fn serve(self: Arc<Self>, connection: OnUpgrade, carrier: PortCarrier, ports: &[u16]) {
        let (user, target) = (&self.who.name, &self.target);
        tracing::info!(user, node = self.node.name, ?target, "port-forwarding begins");
        let how = match open(connection, carrier, ports).await {
            Ok(forwards) => self.clone().forward(forwards).await,
            Err(words) => words,
        };
        tracing::info!(user, ?target, how, "port-forwarding ended");
    }

    async fn forward(self: Arc<Self>, mut forwards: PortForwards) -> String {
        let activity = forwards.activity();
        let serving = async {
            let mut tasks = JoinSet::new();
            let ended = loop {
                tokio::select! {
                    forward = forwards.accept() => match forward {
                        Ok(forward) => drop(tasks.spawn(self.clone().one(forward))),
                        Err(error) => break error,
                    },
                    Some(_) = tasks.join_next() => {}
                }
            };
            // The client opens no more. What it has sent still reaches the pod.
            while tasks.join_next().await.is_some() {}
            ended.to_string()
        };
        let how = tokio::select! {
            how = serving => how,
            () = activity.idle_for(IDLE) => return "nothing passed for four hours".to_owned(),
            () = self.visit.stop.cancelled() => return "the kubelet stops".to_owned(),
        };
        // What the pod has sent still reaches the client.
        let _ = timeout(CREATION, forwards.close()).await;
        how
    }

    async fn one(self: Arc<Self>, forward: Forward) {
        let port = forward.port;
        let _place = match self.visit.api.places.take(&self.who.name) {
            Ok(place) => place,
            Err(full) => return forward.fail(&self.words(port, &full.to_string())).await,
        };
        let pipe = self
            .node
            .streams
            .port_forward(self.target.clone(), port, self.who.clone());
        let pipe = match pipe.await {
            Ok(pipe) => pipe,
            Err(error) => {
                let words = error.to_string();
                return forward.fail(&self.words(port, shortened(&words))).await;
            }
        };
        let Forward { data, mut error, .. } = forward;
        if let Err(failed) = splice(data, pipe).await
            && !has_reset(&failed)
        {
            // The client's connection may be what failed: then nobody hears it.
            let _ = error
                .write_all(self.words(port, &failed.to_string()).as_bytes())
                .await;
        }
    }

    /// As `httpStreamHandler.portForward` says it.
    fn words(&self, port: u16, why: &str) -> String {
        let PodTarget { name, uid, .. } = &self.target;
        let hint = match pods::declares_only_others(&self.pod, port) {
            Some(protocol) => format!(" (the pod declares it for {protocol}, and only TCP can be forwarded)"),
            None => String::new(),
        };
        format!("error forwarding port {port} to pod {name}, uid {uid}: {why}{hint}")
    }
}

/// Whether the client gave its stream up, as kubectl does once either side has ended (`handleConnection` of client-go's portforward). It takes
/// any word on the error stream for a lost pod, and ends all its forwarding.
fn has_reset(failed: &std::io::Error) -> bool {
    matches!(StreamError::of(failed), Some(StreamError::Reset(_)))
}

async fn open(connection: OnUpgrade, carrier: PortCarrier, ports: &[u16]) -> Result<PortForwards, String> {
    let limits = Limits::default();
    let io = upgrade::upgraded(connection).await;
    let io = io.map_err(|error| format!("the client went: {error}"))?;
    let protocol = match carrier {
        PortCarrier::Spdy => return Ok(PortForwards::over_spdy(Session::server(io, limits), CREATION)),
        PortCarrier::WebSocket(protocol) => protocol,
    };
    let socket = upgrade::socket(io).await;
    match protocol {
        PortForwardProtocol::Tunnel => {
            let session = Session::server(Tunnel::new(socket), limits);
            Ok(PortForwards::over_spdy(session, CREATION))
        }
        PortForwardProtocol::Channels(protocol) => {
            PortForwards::over_websocket(socket, protocol, ports, limits).map_err(|error| error.to_string())
        }
    }
}
