//! SIGUSR1: an operator lets held-back removals pass.

use std::convert::Infallible;
use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Listens from now on; the returned future tells `released` of each signal, and never ends.
///
/// # Errors
/// When the handler cannot be set.
pub fn listen(released: mpsc::Sender<()>) -> io::Result<impl Future<Output = Infallible>> {
    let mut release = signal(SignalKind::user_defined1())?;
    Ok(async move {
        loop {
            if release.recv().await.is_none() {
                // The runtime ends, and this with it.
                std::future::pending::<()>().await;
            }
            tracing::warn!("an operator lets held-back removals pass");
            // One that already waits is as good.
            let _ = released.try_send(());
        }
    })
}
