//! A very small HTTP server: one thread per request, each with a deadline, GET only.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::{report, signals};

const DEADLINE: Duration = Duration::from_secs(10);
const MAX_REQUEST_LINE: u64 = 4096;
/// The first byte of a TLS connection.
const HANDSHAKE: u8 = 0x16;

/// Serves until SIGTERM or SIGINT.
pub fn serve(port: u16, answer: fn(TcpStream) -> std::io::Result<()>) -> Result<ExitCode, String> {
    let term = signals::block_term();
    // An IPv6 wildcard serves IPv4 too; a machine without IPv6 gets the IPv4 one.
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| TcpListener::bind(("0.0.0.0", port)))
        .map_err(|error| format!("listening on port {port}: {error}"))?;
    println!("listening on port {port}");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                if let Err(error) = answer(stream) {
                    eprintln!("a request failed: {error}");
                }
            });
        }
    });
    let signal = term
        .wait()
        .map_err(|errno| format!("waiting for a signal: {errno}"))?;
    println!("stopping on {signal}");
    Ok(ExitCode::SUCCESS)
}

/// Bounds what is to come of a connection, and answers one that begins with TLS: whether it did.
pub fn is_over(stream: &mut TcpStream) -> std::io::Result<bool> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let mut first = [0];
    stream.peek(&mut first)?;
    if first[0] != HANDSHAKE {
        return Ok(false);
    }
    stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n")?;
    Ok(true)
}

pub fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    if is_over(&mut stream)? {
        return Ok(());
    }
    let mut line = String::new();
    BufReader::new((&stream).take(MAX_REQUEST_LINE)).read_line(&mut line)?;
    let path = line.strip_prefix("GET ").and_then(|rest| rest.split(' ').next());
    let (status, body) = match path {
        Some(path) => respond(path),
        None => ("405 Method Not Allowed", "only GET is served\n".to_owned()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn respond(path: &str) -> (&'static str, String) {
    let known = |name: &str| std::env::var(name).unwrap_or_else(|_| "unknown".to_owned());
    match path {
        "/" => (
            "200 OK",
            format!("hello from {} version {}\n", known("HOSTNAME"), known("VERSION")),
        ),
        "/healthz" => ("200 OK", "ok\n".to_owned()),
        "/env" => ("200 OK", report::environment()),
        "/elsewhere" => (
            // Its header goes with the status.
            "302 Found\r\nLocation: http://elsewhere.example/",
            "elsewhere".to_owned(),
        ),
        _ => match path.strip_prefix("/file/") {
            Some(file) => {
                let mut text = String::new();
                match report::describe(&Path::new("/").join(file), &mut text) {
                    Ok(()) => ("200 OK", text),
                    Err(error) => ("404 Not Found", format!("{file}: {error}\n")),
                }
            }
            None => ("404 Not Found", format!("nothing at {path}\n")),
        },
    }
}
