//! `outrigger-agent streams`: what a person at the device sees of streams, and says about them.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::desk::Shown;
use crate::options::Options;

/// What the agent answers at most, in bytes: 256 streams of some 2 KiB.
const MAX_ANSWER: usize = 1 << 20;

/// What a person asked for cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum PersonError {
    #[error("the agent does not answer at {path}: does it run, and are you root?")]
    NoAgent {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the agent broke off")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("no stream {0:?} asks to be allowed: `outrigger-agent streams ls` shows those that do")]
    NotAsked(String),
    #[error("the agent answered {status}: {text}")]
    Other { status: StatusCode, text: String },
    #[error("the switch {path} cannot be set")]
    Switch {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The streams under way.
///
/// # Errors
/// The agent cannot be asked.
pub async fn list(options: &Options) -> Result<Vec<Shown>, PersonError> {
    let (status, text) = call(&options.local_socket, "GET", "/streams").await?;
    match status {
        StatusCode::OK => serde_json::from_slice(&text).map_err(|error| PersonError::Http(error.into())),
        status => Err(other(status, &text)),
    }
}

/// Agrees to a stream that asks.
///
/// # Errors
/// None of this id does, or the agent cannot be told.
pub async fn allow(options: &Options, id: &str) -> Result<(), PersonError> {
    decide(options, id, "allow").await
}

/// Declines one that asks.
///
/// # Errors
/// As [`allow`].
pub async fn deny(options: &Options, id: &str) -> Result<(), PersonError> {
    decide(options, id, "deny").await
}

/// From now on no stream is opened, also after a restart, and those that are open are cut within a second. The agent need not run.
///
/// # Errors
/// The switch cannot be written.
pub fn switch_off(options: &Options) -> Result<(), PersonError> {
    let path = &options.streams.off_file;
    let made = std::fs::OpenOptions::new().create(true).append(true).open(path);
    made.map(drop).map_err(|source| PersonError::Switch {
        path: path.clone(),
        source,
    })
}

/// Streams may be opened again.
///
/// # Errors
/// The switch cannot be removed.
pub fn switch_on(options: &Options) -> Result<(), PersonError> {
    let path = &options.streams.off_file;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|source| PersonError::Switch {
            path: path.clone(),
            source,
        }),
    }
}

async fn decide(options: &Options, id: &str, verb: &str) -> Result<(), PersonError> {
    // What is no id of ours must not become another path.
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(PersonError::NotAsked(id.to_owned()));
    }
    let path = format!("/streams/{id}/{verb}");
    match call(&options.local_socket, "POST", &path).await? {
        (StatusCode::OK, _) => Ok(()),
        (StatusCode::NOT_FOUND, _) => Err(PersonError::NotAsked(id.to_owned())),
        (status, text) => Err(other(status, &text)),
    }
}

fn other(status: StatusCode, text: &[u8]) -> PersonError {
    PersonError::Other {
        status,
        text: edge_protocol::text::sanitise(&String::from_utf8_lossy(text)),
    }
}

async fn call(socket: &Path, method: &str, path: &str) -> Result<(StatusCode, Bytes), PersonError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|source| PersonError::NoAgent {
            path: socket.to_owned(),
            source,
        })?;
    let http = |error: hyper::Error| PersonError::Http(error.into());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(http)?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "agent");
    let request = request.body(Empty::<Bytes>::new());
    let request = request.map_err(|error| PersonError::Http(error.into()))?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(http)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        Ok((status, body.map_err(PersonError::Http)?.to_bytes()))
    };
    tokio::select! {
        answer = answer => answer,
        ended = connection => Err(PersonError::Http(match ended {
            Ok(()) => "it closed the connection".into(),
            Err(error) => error.into(),
        })),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::local::{LocalServer, Vitals};
    use crate::options;
    use crate::streams::desk::{About, Desk, State};

    #[tokio::test]
    async fn a_person_sees_what_asks_and_decides_by_the_local_socket() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        let text = format!("state_dir = {:?}\n[hub]\nendpoints = ['h:1']\n", dir.path());
        std::fs::write(&file, text).unwrap();
        let options = options::load(&file, &options::ProxyVariables::default())
            .unwrap()
            .options;
        let nobody = list(&options).await.unwrap_err();
        assert!(matches!(nobody, PersonError::NoAgent { .. }), "{nobody}");

        let desk = Desk::default();
        let server = LocalServer::bind(&options.local_socket, Vitals::default(), desk.clone()).unwrap();
        let token = CancellationToken::new();
        let serving = tokio::spawn(server.run(token.clone()));
        assert_eq!(list(&options).await.unwrap(), []);
        let place = desk.enter(About::example("exec")).unwrap();
        let person = async {
            let rows = list(&options).await.unwrap();
            assert_eq!(rows[0].state, State::Asks);
            let id = &rows[0].stream.id;
            allow(&options, id).await.unwrap();
            let again = deny(&options, id).await.unwrap_err();
            assert!(matches!(again, PersonError::NotAsked(_)), "{again}");
            let elsewhere = allow(&options, "../metrics").await.unwrap_err();
            assert!(matches!(elsewhere, PersonError::NotAsked(_)), "{elsewhere}");
        };
        let (allowed, ()) = tokio::join!(place.ask(Duration::from_secs(20)), person);
        assert!(allowed);
        token.cancel();
        serving.await.unwrap();
    }

    #[test]
    fn the_switch_can_be_set_twice() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        let text = format!("state_dir = {:?}\n[hub]\nendpoints = ['h:1']\n", dir.path());
        std::fs::write(&file, text).unwrap();
        let options = options::load(&file, &options::ProxyVariables::default())
            .unwrap()
            .options;
        for _ in 0..2 {
            switch_off(&options).unwrap();
            assert!(options.streams.off_file.exists());
        }
        for _ in 0..2 {
            switch_on(&options).unwrap();
            assert!(!options.streams.off_file.exists());
        }
    }
}
