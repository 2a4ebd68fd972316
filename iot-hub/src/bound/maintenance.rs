//! What is done from time to time: compaction, and a fresh certificate for the device port.

use std::time::Duration;

use iot_hub_mqtt::ServerTls;
use iot_hub_store::HubStore as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::tls;
use crate::Store;
use crate::ca::Authority;
use crate::options::StoreOptions;

const COMPACT: Duration = Duration::from_mins(10);
const ROTATE: Duration = Duration::from_hours(24);

pub(super) async fn run(
    store: &Store,
    options: &StoreOptions,
    authority: &Authority,
    device_tls: &watch::Sender<ServerTls>,
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
            // The present certificate is good for weeks: a failure is reported and tried again tomorrow.
            match tls::device(authority) {
                Ok(fresh) => drop(device_tls.send_replace(fresh)),
                Err(error) => tracing::error!(%error, "the device port's certificate was not renewed"),
            }
        } else if let Err(error) = store.compact(options.keep_log, options.keep_events).await {
            // Nothing depends on it; a store that is lost shows in the next commit.
            tracing::error!(%error, "compaction failed");
        }
    }
}
