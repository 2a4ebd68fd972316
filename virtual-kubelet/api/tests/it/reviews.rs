//! An API server's side of reviews: records what it is asked, and says what the test wants.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use kube::{Client, Config};
use serde_json::{Value, json};

#[derive(Default)]
pub struct Word {
    /// User and groups by token.
    pub tokens: BTreeMap<String, Value>,
    /// What is allowed: `user verb subresource node`.
    pub allowed: Vec<String>,
    /// Answer every review with this status instead.
    pub broken: Option<u16>,
    pub asked: Vec<Value>,
}

#[derive(Clone)]
pub struct Reviews {
    pub word: Arc<Mutex<Word>>,
    pub client: Client,
}

impl Reviews {
    pub async fn start(word: Word) -> Self {
        let word = Arc::new(Mutex::new(word));
        let router = Router::new().fallback(serve).with_state(Arc::clone(&word));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        // It ends with the test's runtime.
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let client = Client::try_from(Config::new(url.parse().unwrap())).unwrap();
        Self { word, client }
    }

    pub fn asked(&self, kind: &str) -> Vec<Value> {
        let word = self.word.lock().unwrap();
        let of_kind = |asked: &&Value| asked["kind"] == kind;
        word.asked.iter().filter(of_kind).cloned().collect()
    }
}

async fn serve(State(word): State<Arc<Mutex<Word>>>, request: Request<Body>) -> Response {
    let body = to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let mut review: Value = serde_json::from_slice(&body).unwrap();
    let mut word = word.lock().unwrap();
    word.asked.push(review.clone());
    if let Some(code) = word.broken {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": "Forbidden", "code": code});
        return (axum::http::StatusCode::from_u16(code).unwrap(), Json(status)).into_response();
    }
    review["status"] = if review["kind"] == "TokenReview" {
        match word.tokens.get(review["spec"]["token"].as_str().unwrap()) {
            Some(user) => json!({"authenticated": true, "user": user}),
            None => json!({"authenticated": false}),
        }
    } else {
        let (spec, wanted) = (&review["spec"], &review["spec"]["resourceAttributes"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let line = [
            &spec["user"],
            &wanted["verb"],
            &wanted["subresource"],
            &wanted["name"],
        ]
        .map(text);
        json!({"allowed": word.allowed.contains(&line.join(" "))})
    };
    (axum::http::StatusCode::CREATED, Json(review)).into_response()
}
