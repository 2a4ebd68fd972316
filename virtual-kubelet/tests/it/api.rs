//! An API server's HTTP side: records what it is asked and answers what the test says.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use kube::{Client, Config};
use serde_json::{Value, json};
use virtual_kubelet::Cluster;

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: String,
    pub content_type: String,
    /// Whom it asked to be taken for.
    pub user: String,
    pub body: Value,
}

type Answer = Box<dyn Fn(&Asked) -> (u16, String) + Send + Sync>;

pub struct Api {
    pub cluster: Cluster,
    asked: Arc<Mutex<Vec<Asked>>>,
    server: tokio::task::JoinHandle<()>,
}

struct Shared {
    asked: Arc<Mutex<Vec<Asked>>>,
    answer: Answer,
}

impl Api {
    /// Answers JSON; see [`status`] for refusals.
    pub async fn start(answer: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static) -> Self {
        Self::start_raw(move |asked| {
            let (code, body) = answer(asked);
            (code, body.to_string())
        })
        .await
    }

    /// Answers text: a watch is one JSON document per line.
    pub async fn start_raw(answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let shared = Shared {
            asked: Arc::clone(&asked),
            answer: Box::new(answer),
        };
        let router = Router::new().fallback(serve).with_state(Arc::new(shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let client = Client::try_from(Config::new(url.parse().unwrap())).unwrap();
        Self {
            cluster: Cluster::new(client),
            asked,
            server,
        }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Everything asked so far that changes something.
    pub fn writes(&self) -> Vec<Asked> {
        let mut asked = self.asked();
        asked.retain(|asked| asked.method != "GET");
        asked
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let header = |name: &str| {
        let value = parts.headers.get(name);
        value
            .map(|value| value.to_str().unwrap().to_owned())
            .unwrap_or_default()
    };
    let asked = Asked {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        content_type: header("content-type"),
        user: header("impersonate-user"),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    shared.asked.lock().unwrap().push(asked.clone());
    let (code, body) = (shared.answer)(&asked);
    let headers = [("content-type", "application/json")];
    (StatusCode::from_u16(code).unwrap(), headers, body).into_response()
}

/// A refusal as the API server writes it.
pub fn status(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason, "message": message,
    });
    (code, body)
}

pub fn not_found() -> (u16, Value) {
    status(404, "NotFound", "there is none")
}

pub fn pod(uid: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "web", "namespace": "shop", "uid": uid, "resourceVersion": "7", "managedFields": [{"manager": "x"}],
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "rs", "controller": true}],
        },
        "spec": {"nodeName": "edge", "tolerations": [
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
        ]},
        "status": {"phase": "Pending"},
    })
}
