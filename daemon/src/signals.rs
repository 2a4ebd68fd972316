//! SIGTERM and SIGINT: the first stops cleanly, a second one exits at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit status of a process that was told twice.
const IMPATIENT: i32 = 130;

/// Listens from now on; the returned future cancels `stop` at the first signal, exits the process at the second, and never ends.
///
/// # Errors
/// When the handlers cannot be set.
pub fn listen(stop: CancellationToken) -> io::Result<impl Future<Output = std::convert::Infallible>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop.is_cancelled() {
                std::process::exit(IMPATIENT);
            }
            tracing::info!("stopping; a second signal exits at once");
            stop.cancel();
        }
    })
}
