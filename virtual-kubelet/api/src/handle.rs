//! A request, from who asks to the answer.
//!
//! * here: authentication, authorisation, and which handler answers.
//! * [`node`]: what the process or the node answers as a whole. [`logs`]: a container's log.
//! * [`upgrade`]: what carries streams. [`commands`]: exec, attach and run. [`ports`]: port-forward.

mod commands;
mod logs;
mod node;
mod ports;
mod upgrade;

use std::sync::Arc;

use http::{Request, StatusCode, header};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use rustls::pki_types::CertificateDer;

use crate::answer::{self, Answer, Refusal};
use crate::authentication::AuthenticationError;
use crate::authorization::{Attributes, refusal};
use crate::pods;
use crate::provider::{ContainerTarget, Pod, PodTarget, StreamsError};
use crate::query::Query;
use crate::route::{ContainerPath, PodPath, Route, Unrouted};
use crate::serve::{Nodes, ServedNode, StatsAccess, UserPlace, Visit};
use crate::user::User;

/// Bytes of the reason in an answer; longer ones of providers are cut.
const MAX_REASON: usize = 1024;

/// A request of a known user who may ask it, for one node.
struct Asked<'a> {
    visit: &'a Visit,
    node: ServedNode,
    who: Arc<User>,
    query: Query,
}

pub(crate) async fn answer(
    request: Request<Incoming>,
    visit: &Visit,
    certificates: &[CertificateDer<'static>],
) -> Answer {
    let Ok(path) = percent_decode_str(request.uri().path()).decode_utf8() else {
        return answer::text(StatusCode::BAD_REQUEST, "the path is no text");
    };
    let path = path.into_owned();
    let route = Route::of(request.method(), &path);
    let node = node_of(&visit.nodes, route.as_ref().ok());
    let who = if is_open(visit, &route) {
        Arc::default()
    } else {
        match admit(&request, &path, visit, certificates, node.as_ref()).await {
            Ok(who) => who,
            Err(refused) => return refused.into(),
        }
    };
    match route {
        Ok(route) => dispatch(route, request, visit, node, who).await,
        Err(unrouted) => nowhere(unrouted),
    }
}

fn is_open(visit: &Visit, route: &Result<Route, Unrouted>) -> bool {
    let figures = matches!(route, Ok(Route::StatsSummary | Route::Metrics(_)));
    figures && visit.api.stats_access == StatsAccess::Open
}

fn node_of(nodes: &Nodes, route: Option<&Route>) -> Option<ServedNode> {
    match nodes {
        Nodes::One(node) => Some(node.clone()),
        Nodes::Shared { of_pod, whole } => match route?.pod() {
            Some(pod) => of_pod(&pod.namespace, &pod.name),
            None => whole.clone(),
        },
    }
}

/// The user, if it may; the words of a refusal are the kubelet's (`InstallAuthFilter`).
async fn admit(
    request: &Request<Incoming>,
    path: &str,
    visit: &Visit,
    certificates: &[CertificateDer<'static>],
    node: Option<&ServedNode>,
) -> Result<Arc<User>, Refusal> {
    let api = &visit.api;
    let unknown = || Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized");
    let who = match api
        .authenticator
        .authenticate(certificates, request.headers())
        .await
    {
        Ok(Some(who)) => who,
        Ok(None) => return Err(unknown()),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            match &error {
                AuthenticationError::Token(_) => {
                    tracing::warn!(%error, cause, path, "the cluster does not say who asks");
                }
                // Any stranger can have this said.
                AuthenticationError::Certificate(_) => {
                    tracing::debug!(%error, cause, path, "a request of nobody known");
                }
            }
            return Err(unknown());
        }
    };
    let attributes = Attributes::of(request.method(), path);
    // On a shared port a pod that nobody has is nobody's to hear of, but for those who may ask every node.
    let node = node.map_or("", |node| &node.name);
    match api.authorizer.allows(&who, &attributes, node).await {
        Ok(true) => Ok(who),
        Ok(false) => {
            tracing::info!(user = who.name, verb = attributes.verb, node, path, "forbidden");
            Err(Refusal::new(StatusCode::FORBIDDEN, refusal(&who, &attributes)))
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, cause, path, "a request that nobody decides on");
            let text = format!(
                "Authorization error (user={}, verb={}, resource=nodes, subresource={})",
                error.user, error.verb, error.subresource
            );
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text))
        }
    }
}

async fn dispatch(
    route: Route,
    request: Request<Incoming>,
    visit: &Visit,
    node: Option<ServedNode>,
    who: Arc<User>,
) -> Answer {
    let query = Query::read(request.uri().query());
    if let Some(answer) = node::process(&route, request.headers(), &query, visit, node.as_ref()) {
        return answer;
    }
    let Some(node) = node else {
        let words = match route.pod() {
            Some(_) => "pod does not exist",
            None => "this port is shared by several nodes: it answers for pods, and for no node as a whole",
        };
        return answer::text(StatusCode::NOT_FOUND, words);
    };
    let asked = Asked {
        visit,
        node,
        who,
        query,
    };
    match route {
        Route::Pods => node::pods(&asked),
        Route::RunningPods => node::running_pods(&asked).await,
        Route::StatsSummary => node::summary(&asked).await,
        Route::Metrics(which) => node::metrics(&asked, which).await,
        Route::Checkpoint(path) => node::checkpoint(&asked, &path),
        Route::ContainerLogs(path) => logs::answer(&asked, &path).await,
        Route::Exec(path) => commands::exec(&asked, &path, request).await,
        Route::Attach(path) => commands::attach(&asked, &path, request).await,
        Route::Run(path) => commands::run(&asked, &path).await,
        Route::PortForward(path) => ports::answer(&asked, &path, request),
        Route::Healthz(_) | Route::Configz | Route::SystemLogs | Route::Statusz | Route::Flagz => {
            nowhere(Unrouted::NotFound)
        }
    }
}

/// In the words of go-restful.
fn nowhere(unrouted: Unrouted) -> Answer {
    let refusal = match unrouted {
        Unrouted::NotFound => Refusal::new(StatusCode::NOT_FOUND, "404: Page Not Found"),
        Unrouted::Method(allowed) => {
            let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed");
            refusal.with(header::ALLOW, allowed)
        }
        Unrouted::Moved(to) => {
            Refusal::new(StatusCode::MOVED_PERMANENTLY, "Moved Permanently").with(header::LOCATION, to)
        }
    };
    refusal.into()
}

impl Asked<'_> {
    /// The pod that a path names, of this UID where it names one.
    fn pod(&self, path: &PodPath) -> Result<(Pod, PodTarget), Refusal> {
        let missing = || Refusal::new(StatusCode::NOT_FOUND, "pod does not exist");
        let pod = self
            .node
            .streams
            .pod(&path.namespace, &path.name)
            .ok_or_else(missing)?;
        let target = pods::target(&pod);
        match &path.uid {
            Some(uid) if *uid != target.uid => Err(Refusal::new(StatusCode::NOT_FOUND, "pod not found")),
            _ => Ok((pod, target)),
        }
    }

    /// The container that a path names. The kubelet, which asks its runtime, has the same words for one that the pod never had.
    fn container(&self, path: &ContainerPath) -> Result<(Pod, ContainerTarget), Refusal> {
        let (pod, target) = self.pod(&path.pod)?;
        if pods::container(&pod, &path.container).is_none() {
            let words = format!("container not found ({:?})", path.container);
            return Err(Refusal::new(StatusCode::NOT_FOUND, words));
        }
        let target = ContainerTarget {
            pod: target,
            container: path.container.clone(),
        };
        Ok((pod, target))
    }

    fn place(&self) -> Result<UserPlace, Refusal> {
        let places = &self.visit.api.places;
        places.take(&self.who.name).map_err(|full| {
            tracing::warn!(user = self.who.name, node = self.node.name, %full, "a stream is refused");
            busy(&full.to_string())
        })
    }
}

fn busy(words: &str) -> Refusal {
    // As long as the kubelet's streaming server says.
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, words).with(header::RETRY_AFTER, "60")
}

fn refused(error: &StreamsError) -> Refusal {
    let words = error.to_string();
    match error {
        StreamsError::Busy { .. } => busy(shortened(&words)),
        error => Refusal::new(error.status(), shortened(&words)),
    }
}

fn shortened(words: &str) -> &str {
    &words[..words.floor_char_boundary(MAX_REASON)]
}
