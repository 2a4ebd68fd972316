//! SIGUSR1: an operator lets held-back removals pass.

use std::convert::Infallible;
use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Listens from now on; the returned future counts each signal in `released`, and never ends.
///
/// # Errors
/// When the handler cannot be set.
pub fn listen(released: watch::Sender<u64>) -> io::Result<impl Future<Output = Infallible>> {
    let mut release = signal(SignalKind::user_defined1())?;
    Ok(async move {
        loop {
            if release.recv().await.is_none() {
                // The runtime ends, and this with it.
                std::future::pending::<()>().await;
            }
            tracing::warn!("an operator lets held-back removals pass");
            released.send_modify(|count| *count += 1);
        }
    })
}
