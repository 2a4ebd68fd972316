//! What is done from time to time: compaction, and fresh certificates for the ports.

use std::sync::Arc;
use std::time::Duration;

use iot_hub_mqtt::ServerTls;
use iot_hub_store::HubStore as _;
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{BuildError, tls};
use crate::Store;
use crate::ca::Authority;
use crate::options::Options;

const COMPACT: Duration = Duration::from_mins(10);
const ROTATE: Duration = Duration::from_hours(24);

/// The ports' certificates; each handshake uses the newest.
pub(super) struct Tls {
    pub(super) device: watch::Sender<ServerTls>,
    pub(super) rest: watch::Sender<Arc<ServerConfig>>,
}

pub(super) async fn run(
    store: &Store,
    options: &Options,
    authority: &Authority,
    tls: &Tls,
    stop: &CancellationToken,
) {
    let mut compact = tokio::time::interval(COMPACT);
    let mut rotate = tokio::time::interval_at(tokio::time::Instant::now() + ROTATE, ROTATE);
    loop {
        let is_rotation = tokio::select! {
            () = stop.cancelled() => return,
            _ = compact.tick() => false,
            _ = rotate.tick() => true,
        };
        if is_rotation {
            // The present certificates are good for weeks: a failure is reported and tried again tomorrow.
            if let Err(error) = rotate_certificates(options, authority, tls) {
                tracing::error!(%error, "the ports' certificates were not renewed");
            }
        } else if let Err(error) = store
            .compact(options.store.keep_log, options.store.keep_events)
            .await
        {
            // Nothing depends on it; a store that is lost shows in the next commit.
            tracing::error!(%error, "compaction failed");
        }
    }
}

/// Configured certificates are read again, so that whoever renews the files need not restart the hub.
fn rotate_certificates(options: &Options, authority: &Authority, tls: &Tls) -> Result<(), BuildError> {
    tls.device.send_replace(tls::device(authority)?);
    tls.rest.send_replace(tls::rest(&options.rest, authority)?);
    Ok(())
}
