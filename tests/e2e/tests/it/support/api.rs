//! The API server, asked from a blocking test. Much cheaper than a kubectl per look.

use std::path::Path;

use futures_util::StreamExt as _;
use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::WatchEvent;
use kube::{Client, Config};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::watching::{Change, Recording};

/// An administrator's client. Objects are plain JSON, paths are those of the REST API.
pub struct Api {
    runtime: Runtime,
    client: Client,
}

impl Api {
    pub fn connect(kubeconfig: &Path) -> Self {
        // Fails only when it was installed before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let client = runtime.block_on(async {
            let file = Kubeconfig::read_from(kubeconfig).unwrap();
            let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .unwrap();
            Client::try_from(config).unwrap()
        });
        Self { runtime, client }
    }

    /// The object, or `None` when there is none.
    pub fn get(&self, path: &str) -> Option<Value> {
        match self.call(Method::GET, path, None, &Value::Null) {
            Ok(object) => Some(object),
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => panic!("GET {path}: {error}"),
        }
    }

    /// The items of a list.
    pub fn list(&self, path: &str) -> Vec<Value> {
        let mut list = self.get(path).unwrap_or_else(|| panic!("GET {path}: not found"));
        serde_json::from_value(list["items"].take()).unwrap()
    }

    /// Watches a collection, whose path has a query already, from now on; what is there counts as the first changes.
    pub fn record(&self, path: &str) -> Recording {
        let watch = Request::get(format!("{path}&watch=true&timeoutSeconds=600"));
        let watch = watch.body(Vec::new()).unwrap();
        let client = self.client.clone();
        Recording::new(|changes| {
            self.runtime.spawn(async move {
                let Ok(events) = client.request_events::<Value>(watch).await else {
                    return;
                };
                let mut events = std::pin::pin!(events);
                while let Some(Ok(event)) = events.next().await {
                    let change = match event {
                        WatchEvent::Added(object) | WatchEvent::Modified(object) => Change::Is(object),
                        WatchEvent::Deleted(object) => Change::Gone(object),
                        WatchEvent::Bookmark(_) => continue,
                        WatchEvent::Error(_) => return,
                    };
                    changes.lock().expect("nobody panics with it").push(change);
                }
            })
        })
    }

    pub fn create(&self, path: &str, object: &Value) -> Value {
        self.call(Method::POST, path, Some("application/json"), object)
            .unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// Merges (RFC 7386).
    pub fn patch(&self, path: &str, patch: &Value) -> Value {
        self.call(Method::PATCH, path, Some("application/merge-patch+json"), patch)
            .unwrap_or_else(|error| panic!("PATCH {path}: {error}"))
    }

    /// Deletes with these options; an object that is gone already is fine.
    pub fn delete(&self, path: &str, options: &Value) {
        match self.call(Method::DELETE, path, Some("application/json"), options) {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => panic!("DELETE {path}: {error}"),
        }
    }

    fn call(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: &Value,
    ) -> Result<Value, kube::Error> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(content_type) = content_type {
            request = request.header(http::header::CONTENT_TYPE, content_type);
        }
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let request = request.body(body).map_err(kube::Error::HttpError)?;
        self.runtime.block_on(self.client.request(request))
    }
}
