//! Opening the three ports.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use iot_hub_mqtt::AcceptorOptions;
use rustls::ServerConfig;
use tokio::sync::watch;

use super::BuildError;
use crate::options::Options;
use crate::serve::Port;

/// Health probes and scrapes at a time.
const HEALTH_CONNECTIONS: usize = 64;
/// See [`bind_any`].
const ATTEMPTS: usize = 8;

pub(super) struct Ports {
    pub(super) device: iot_hub_mqtt::Bound,
    pub(super) rest: Port,
    pub(super) health: Port,
}

impl Ports {
    pub(super) async fn bind(
        options: &Options,
        rest_tls: watch::Receiver<Arc<ServerConfig>>,
    ) -> Result<Self, BuildError> {
        let max_sessions = options.device.max_sessions;
        let acceptor = AcceptorOptions {
            max_connections: max_sessions + max_sessions / 4 + 64,
            ..AcceptorOptions::default()
        };
        let max_rest = options.rest.max_connections;
        let device = async |address| Ok(iot_hub_mqtt::Bound::new(address, acceptor.clone())?);
        let rest = async |address| Ok(Port::bind(address, Some(rest_tls.clone()), max_rest).await?);
        let health = async |address| Ok(Port::bind(address, None, HEALTH_CONNECTIONS).await?);
        Ok(Self {
            device: bind_any(options.device.listen, device).await?,
            rest: bind_any(options.rest.listen, rest).await?,
            health: bind_any(options.health.listen, health).await?,
        })
    }
}

/// Port 0 asks for any free port, but until it listens the kernel may give the same one to another socket that allows reuse;
/// the later of the two then finds it in use. Asking again is no wait for somebody's port. A given port is tried once.
async fn bind_any<T>(
    address: SocketAddr,
    bind: impl AsyncFn(SocketAddr) -> Result<T, BuildError>,
) -> Result<T, BuildError> {
    let mut attempt = 1;
    loop {
        match bind(address).await {
            Err(error) if address.port() == 0 && attempt < ATTEMPTS && is_in_use(&error) => attempt += 1,
            result => return result,
        }
    }
}

fn is_in_use(error: &BuildError) -> bool {
    let source = match error {
        BuildError::Bind(error) => &error.source,
        BuildError::DevicePort(error) => &error.source,
        _ => return false,
    };
    source.kind() == io::ErrorKind::AddrInUse
}
