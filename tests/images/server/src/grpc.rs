//! As much of HTTP/2 as a gRPC health check takes (grpc.health.v1 `Check`): what is asked for is not read from headers, only from data.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(30);
const PREFACE: usize = 24;
/// The greatest frame that a client sends to whom said nothing else.
const MAX_FRAME: usize = 1 << 14;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:status: 200` of the static table, then a literal header.
const HEAD: &[u8] = b"\x88\x00\x0ccontent-type\x10application/grpc";
const TRAILERS: &[u8] = b"\x00\x0bgrpc-status\x010";

/// Answers every check of one connection until its other end is gone. How that goes is its own affair: clients in Go reset connections.
pub fn answer(stream: TcpStream) -> io::Result<()> {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    match converse(stream) {
        Err(error) if matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof) => Ok(()),
        ended => ended,
    }
}

fn converse(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.read_exact(&mut [0; PREFACE])?;
    frame(&mut stream, (SETTINGS, 0), 0, &[])?;
    // Of one check at a time.
    let mut request = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let [a, b, c, kind, flags, id @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if length > MAX_FRAME {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        match kind {
            SETTINGS if flags & ACK == 0 => frame(&mut stream, (SETTINGS, ACK), 0, &[])?,
            PING if flags & ACK == 0 => frame(&mut stream, (PING, ACK), 0, &body)?,
            DATA if request.len() <= MAX_FRAME => request.extend(body),
            _ => {}
        }
        if kind == DATA && flags & END_STREAM != 0 {
            let id = u32::from_be_bytes(id);
            frame(&mut stream, (HEADERS, END_HEADERS), id, HEAD)?;
            frame(&mut stream, (DATA, 0), id, &status(&request))?;
            frame(&mut stream, (HEADERS, END_HEADERS | END_STREAM), id, TRAILERS)?;
            request.clear();
        }
    }
}

/// A message of its length, not compressed: field 1, `SERVING` or `NOT_SERVING`.
fn status(request: &[u8]) -> [u8; 7] {
    let status = if request.ends_with(b"sick") { 2 } else { 1 };
    [0, 0, 0, 0, 2, 8, status]
}

fn frame(stream: &mut TcpStream, (kind, flags): (u8, u8), id: u32, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(id.to_be_bytes());
    frame.extend(body);
    stream.write_all(&frame)
}
