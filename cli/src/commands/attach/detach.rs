//! Keys by which a person leaves a terminal that goes on without them.

use std::io;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Notify;

/// What is read at once.
const PIECE: usize = 1024;
/// In the order of their codes (`github.com/moby/term`, `ascii.go`).
const CONTROL: &[u8] = b"@abcdefghijklmnopqrstuvwxyz[\\]^_";

/// Codes in their order; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

impl FromStr for DetachKeys {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let code = |key: &str| {
            let control = key.strip_prefix("ctrl-").map(str::as_bytes);
            let known = match (key.as_bytes(), control) {
                ([one], _) => Some(*one),
                (_, Some([one])) => CONTROL
                    .iter()
                    .position(|known| known == one)
                    .and_then(|code| u8::try_from(code).ok()),
                (b"DEL", _) => Some(127),
                _ => None,
            };
            known.ok_or_else(|| format!("{key:?} is no key; say one such as `ctrl-p` or `x`"))
        };
        text.split(',').map(code).collect::<Result<_, _>>().map(Self)
    }
}

/// Resolves when the keys were pressed.
pub struct Detached(Arc<Notify>);

impl Detached {
    pub async fn wait(&self) {
        self.0.notified().await;
    }
}

/// What a person types, less the keys, at which it ends.
pub struct Detachable<R> {
    input: R,
    keys: Option<DetachKeys>,
    /// Typed, and perhaps the beginning of the keys.
    held: Vec<u8>,
    /// Typed, and none of the keys.
    ready: Vec<u8>,
    ended: bool,
    detached: Arc<Notify>,
}

impl<R> Detachable<R> {
    /// Without keys everything passes.
    pub fn new(input: R, keys: Option<DetachKeys>) -> (Self, Detached) {
        let detached = Arc::new(Notify::new());
        let this = Self {
            input,
            keys,
            held: Vec::new(),
            ready: Vec::new(),
            ended: false,
            detached: Arc::clone(&detached),
        };
        (this, Detached(detached))
    }

    fn typed(&mut self, bytes: &[u8]) {
        let Some(DetachKeys(keys)) = &self.keys else {
            self.ready.extend_from_slice(bytes);
            return;
        };
        for byte in bytes {
            self.held.push(*byte);
            while !keys.starts_with(&self.held) {
                self.ready.push(self.held.remove(0));
            }
            if self.held == *keys {
                self.held.clear();
                self.ended = true;
                self.detached.notify_one();
                return;
            }
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Detachable<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.ready.is_empty() || this.ended {
                let count = this.ready.len().min(into.remaining());
                into.put_slice(&this.ready[..count]);
                this.ready.drain(..count);
                return Poll::Ready(Ok(()));
            }
            let mut piece = [0; PIECE];
            let mut read = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut this.input).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                this.ready.append(&mut this.held);
                this.ended = true;
            } else {
                this.typed(read.filled());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// What passes of these pieces, and whether the keys were among them.
    async fn check(keys: &str, pieces: &[&[u8]], expect: (&[u8], bool)) {
        let chained = pieces.iter().fold(
            Box::new(tokio::io::empty()) as Box<dyn AsyncRead + Unpin>,
            |before, piece| Box::new(before.chain(*piece)),
        );
        let (mut input, detached) = Detachable::new(chained, Some(keys.parse().unwrap()));
        let mut passed = Vec::new();
        input.read_to_end(&mut passed).await.unwrap();
        let left = tokio::time::timeout(std::time::Duration::ZERO, detached.wait()).await;
        assert_eq!((passed.as_slice(), left.is_ok()), expect, "{keys} {pieces:?}");
    }

    #[tokio::test]
    async fn keys_are_found_wherever_they_are_cut_and_nothing_else_is_lost() {
        let default = "ctrl-p,ctrl-q";
        check(default, &[b"ls\n"], (b"ls\n", false)).await;
        check(default, &[b"ls\n\x10\x11rm\n"], (b"ls\n", true)).await;
        check(default, &[b"a\x10", b"\x11b"], (b"a", true)).await;
        check(default, &[b"\x10", b"b\x11"], (b"\x10b\x11", false)).await;
        check(default, &[b"\x10\x10\x11"], (b"\x10", true)).await;
        check(default, &[b"a\x10"], (b"a\x10", false)).await;
        check("x,x,y", &[b"xxxy"], (b"x", true)).await;
        check("ctrl-]", &[b"a\x1db"], (b"a", true)).await;
        check("DEL", &[b"a\x7f"], (b"a", true)).await;
    }

    #[test]
    fn what_is_no_key_is_told() {
        for wrong in ["", "ctrl-", "ctrl-P", "ctrl-ab", "p,", "escape"] {
            let found = wrong.parse::<DetachKeys>();
            assert!(found.is_err(), "{wrong:?}: {found:?}");
        }
    }
}
