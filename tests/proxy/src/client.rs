//! The control endpoint's client: blocking, since the tests that use it are.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::rule::{Interrupt, Interrupted, Ledger, Rule, Told};

const LIMIT: Duration = Duration::from_secs(10);
/// A thousand lies of the longest kind fit.
const MAX_ANSWER: u64 = 4 << 20;

/// Tells a running proxy what to lie about. One connection per call.
#[derive(Debug, Clone, Copy)]
pub struct ControlClient {
    address: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("the proxy's control endpoint {address} does not answer")]
    Connection {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the proxy refuses: {answer}")]
    Refused { answer: String },
    #[error("the proxy's answer is not understood")]
    Answer(#[source] serde_json::Error),
    #[error("the proxy was told no lie {id}")]
    NoSuchLie { id: u64 },
}

impl ControlClient {
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Tells a lie; the result holds its id. When this returns, every further request meets it, and [`Lie::Cut`](crate::Lie::Cut) has been
    /// served to the watches that were open.
    ///
    /// # Errors
    /// Every [`ControlError`], as with all methods here.
    pub fn tell(&self, rule: &Rule) -> Result<Told, ControlError> {
        self.call("POST", "/lies", &encode(rule))
    }

    /// Withdraws all lies; counters stay.
    pub fn pass(&self) -> Result<(), ControlError> {
        self.exchange("DELETE", "/lies", "").map(drop)
    }

    /// Cuts open watches without counting it as a lie, and says how many.
    pub fn interrupt(&self, prefix: &str) -> Result<u64, ControlError> {
        let asked = Interrupt {
            prefix: prefix.to_owned(),
        };
        let done: Interrupted = self.call("POST", "/interrupt", &encode(&asked))?;
        Ok(done.watches)
    }

    pub fn ledger(&self) -> Result<Ledger, ControlError> {
        self.call("GET", "/lies", "")
    }

    /// How often this lie was served so far.
    pub fn served(&self, id: u64) -> Result<u64, ControlError> {
        let lies = self.ledger()?.lies;
        let told = lies.iter().find(|told| told.id == id);
        told.map(|told| told.served).ok_or(ControlError::NoSuchLie { id })
    }

    fn call<T: DeserializeOwned>(&self, method: &str, path: &str, body: &str) -> Result<T, ControlError> {
        let answer = self.exchange(method, path, body)?;
        serde_json::from_str(&answer).map_err(ControlError::Answer)
    }

    /// One request with `connection: close`, so that the answer's end is the connection's.
    fn exchange(&self, method: &str, path: &str, body: &str) -> Result<String, ControlError> {
        let failed = |source| ControlError::Connection {
            address: self.address,
            source,
        };
        let mut stream = TcpStream::connect_timeout(&self.address, LIMIT).map_err(failed)?;
        stream.set_read_timeout(Some(LIMIT)).map_err(failed)?;
        stream.set_write_timeout(Some(LIMIT)).map_err(failed)?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        stream.write_all(request.as_bytes()).map_err(failed)?;
        let mut answer = String::new();
        stream
            .take(MAX_ANSWER)
            .read_to_string(&mut answer)
            .map_err(failed)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        if head.starts_with("HTTP/1.1 2") {
            Ok(body.to_owned())
        } else {
            Err(ControlError::Refused {
                answer: answer.trim().to_owned(),
            })
        }
    }
}

fn encode(document: &impl serde::Serialize) -> String {
    serde_json::to_string(document).expect("the documents have only string keys")
}
