//! A server that wants to be asked in one way only, and says aloud how it was asked.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use crate::http;

const MAX_REQUEST: u64 = 16 << 10;

/// What a client asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    path: String,
    headers: Vec<(String, String)>,
}

/// Answers one request: `/wants/NAME/VALUE` well if it has that header, `/told/WHAT` always, anything else not.
pub fn answer(mut stream: TcpStream) -> io::Result<()> {
    if http::is_over(&mut stream)? {
        println!("a TLS handshake");
        return Ok(());
    }
    let request = read(BufReader::new((&stream).take(MAX_REQUEST)))?;
    if let Some(what) = request.path.strip_prefix("/told/") {
        println!(
            "told {what} from {}",
            request.header("x-from").unwrap_or("nobody")
        );
    }
    let status = if request.is_right() {
        "200 OK"
    } else {
        "404 Not Found"
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
}

fn read(mut from: impl BufRead) -> io::Result<Request> {
    let mut request = Request::default();
    let mut line = String::new();
    from.read_line(&mut line)?;
    let path = line.strip_prefix("GET ").and_then(|rest| rest.split(' ').next());
    path.unwrap_or_default().clone_into(&mut request.path);
    loop {
        line.clear();
        from.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else {
            return Ok(request);
        };
        let header = (name.to_ascii_lowercase(), value.trim().to_owned());
        request.headers.push(header);
    }
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().filter(|(each, _)| each == name);
        named.next().map(|(_, value)| value.as_str())
    }

    fn is_right(&self) -> bool {
        let wanted = self
            .path
            .strip_prefix("/wants/")
            .and_then(|rest| rest.split_once('/'));
        match wanted {
            Some((name, value)) => self.header(&name.to_ascii_lowercase()) == Some(value),
            None => self.path.starts_with("/told/"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_right_with_its_header_only() {
        let is_right = |text: &str| read(text.as_bytes()).unwrap().is_right();
        assert!(is_right("GET /wants/X-A/1 HTTP/1.1\r\nHost: a\r\nx-a: 1\r\n\r\n"));
        assert!(!is_right("GET /wants/X-A/1 HTTP/1.1\r\nX-A: 2\r\n\r\n"));
        assert!(!is_right("GET /wants/X-A/1 HTTP/1.1\r\n\r\n"));
        assert!(!is_right("GET / HTTP/1.1\r\nX-A: 1\r\n\r\n"));
        assert!(!is_right("POST /told/a HTTP/1.1\r\n\r\n"));
        let told = read("GET /told/a HTTP/1.1\r\nX-From: hook\r\n\r\n".as_bytes()).unwrap();
        assert!(told.is_right());
        assert_eq!(told.header("x-from"), Some("hook"));
    }
}
