//! A bad link: connections of a device to its hub pass through here, late, in fits and starts, or not at all.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lab::Device;
use lab::Program;

const CHUNK: usize = 16 << 10;
/// So much is on its way at most, as in the buffers of a modem.
const CHUNKS: usize = 64;
const STALL: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(20);

/// A relay before one port of the hub, for one device. It ends with its test.
pub struct Relay {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    delay_ms: AtomicU64,
    /// Each so manieth chunk stalls what is behind it; 0 is none.
    stall_every: AtomicU64,
    chunks: AtomicU64,
    /// Nothing passes, and nobody is told.
    is_mute: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Relay {
    /// Leads this device's connections to `hub` through a relay on the lab's side of the link.
    pub fn between(device: &Device, hub: SocketAddr) -> Self {
        let listener = TcpListener::bind((hub.ip(), 0)).unwrap();
        let here = listener.local_addr().unwrap();
        let rules = format!(
            "add table ip relay; add chain ip relay output {{ type nat hook output priority -100; }}; \
             add rule ip relay output ip daddr {} tcp dport {} dnat to {here}",
            hub.ip(),
            hub.port()
        );
        device.run(&Program::new("nft").arg(rules), LIMIT).unwrap();
        let state = Arc::<State>::default();
        let relaying = Arc::clone(&state);
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(hub) else {
                    continue;
                };
                let both = [near.try_clone().unwrap(), far.try_clone().unwrap()];
                relaying.open.lock().unwrap().extend(both);
                for (from, to) in [(near.try_clone(), far.try_clone()), (Ok(far), Ok(near))] {
                    relaying.clone().pass(from.unwrap(), to.unwrap());
                }
            }
        });
        Self { state }
    }

    /// All bytes are late by this.
    pub fn delay(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap();
        self.state.delay_ms.store(millis, Ordering::Relaxed);
    }

    /// Each so manieth piece comes two seconds later still, and what is behind it too.
    pub fn stall_every(&self, pieces: u64) {
        self.state.stall_every.store(pieces, Ordering::Relaxed);
    }

    /// Connections stay, and nothing passes: a half-open link. What was held passes when it is over.
    pub fn mute(&self, is_mute: bool) {
        self.state.is_mute.store(is_mute, Ordering::Relaxed);
    }

    /// Ends all connections, both ways, in the middle of whatever passes. New ones pass.
    pub fn cut(&self) {
        for stream in self.state.open.lock().unwrap().drain(..) {
            // It may have ended.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl State {
    /// One direction of a connection, read by one thread and written by another when its time has come.
    fn pass(self: Arc<Self>, mut from: TcpStream, to: TcpStream) {
        let (queue, due) = sync_channel(CHUNKS);
        let state = Arc::clone(&self);
        std::thread::spawn(move || state.write(to, &due));
        std::thread::spawn(move || {
            let mut chunk = vec![0; CHUNK];
            while let Ok(length) = from.read(&mut chunk) {
                let when = Instant::now() + Duration::from_millis(self.delay_ms.load(Ordering::Relaxed));
                if queue.send((when, chunk[..length].to_vec())).is_err() || length == 0 {
                    return;
                }
            }
        });
    }

    fn write(&self, mut to: TcpStream, due: &Receiver<(Instant, Vec<u8>)>) {
        for (when, bytes) in due {
            std::thread::sleep(when.saturating_duration_since(Instant::now()));
            let every = self.stall_every.load(Ordering::Relaxed);
            let number = self.chunks.fetch_add(1, Ordering::Relaxed);
            if every > 0 && number % every == every - 1 {
                std::thread::sleep(STALL);
            }
            while self.is_mute.load(Ordering::Relaxed) {
                std::thread::sleep(PAUSE);
            }
            let passed = if bytes.is_empty() {
                to.shutdown(Shutdown::Write)
            } else {
                to.write_all(&bytes)
            };
            if passed.is_err() {
                return;
            }
        }
        // The other side was cut, or is gone.
        let _ = to.shutdown(Shutdown::Both);
    }
}
