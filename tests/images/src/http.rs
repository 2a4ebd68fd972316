//! As much of an HTTP/1.1 client as a registry on the local network needs: no TLS, one exchange per connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(30);
/// Head and body of an answer; the answers to a push are a few hundred bytes.
const MAX_ANSWER: u64 = 64 * 1024;

pub struct Request<'a> {
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    pub content_type: &'a str,
    pub body: &'a [u8],
}

#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// The `Location` header.
    pub location: Option<String>,
    pub body: String,
}

/// Sends one request; every wait for the peer ends after [`DEADLINE`].
pub fn exchange(server: SocketAddr, request: &Request<'_>) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&server, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    write!(
        stream,
        "{} {} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
        request.method,
        request.target,
        request.content_type,
        request.body.len()
    )?;
    stream.write_all(request.body)?;
    read_answer(BufReader::new(stream.take(MAX_ANSWER)))
}

fn read_answer(mut answer: impl BufRead) -> io::Result<Answer> {
    let mut line = String::new();
    answer.read_line(&mut line)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| invalid(format!("{line:?} is no status line")))?;
    let mut location = None;
    loop {
        line.clear();
        answer.read_line(&mut line)?;
        let header = line.trim_end();
        if header.is_empty() {
            break;
        }
        let (name, value) = header
            .split_once(':')
            .ok_or_else(|| invalid(format!("{header:?} is no header")))?;
        if name.eq_ignore_ascii_case("location") {
            location = Some(value.trim().to_owned());
        }
    }
    let mut body = Vec::new();
    answer.read_to_end(&mut body)?;
    Ok(Answer {
        status,
        location,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_a_broken_one_is_an_error() {
        let check = |given: &str, expect: Option<(u16, Option<&str>, &str)>| {
            let answer = read_answer(given.as_bytes()).ok();
            let seen = answer
                .as_ref()
                .map(|each| (each.status, each.location.as_deref(), each.body.as_str()));
            assert_eq!(seen, expect, "{given:?}");
        };
        check(
            "HTTP/1.1 202 Accepted\r\nLOCATION: /v2/a\r\n\r\n",
            Some((202, Some("/v2/a"), "")),
        );
        check(
            "HTTP/1.1 404 Not Found\r\nA: b\r\n\r\nnone",
            Some((404, None, "none")),
        );
        check("HTTP/1.1 200 OK\r\n", Some((200, None, "")));
        check("SPDY yes\r\n\r\n", None);
        check("HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", None);
        check("", None);
    }
}
