//! Taps of a site: `outrigger-tap` before the hub's ports, so that a test reads in clear what passes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edge_protocol::HubId;
use edge_protocol::v1::enrol::hub_server_name;
use lab::{Device, Lab, Program};

use crate::hub::HubFiles;
use crate::{HubAccess, Programs, SiteError, agents, files};

const LISTEN_LIMIT: Duration = Duration::from_secs(20);
const REST: &str = "tap-rest";

/// What whoever asks the REST API asks instead.
pub(crate) fn before_rest(
    lab: &Lab,
    programs: &Programs,
    hub: &HubFiles,
    access: &HubAccess,
) -> Result<HubAccess, SiteError> {
    let upstream = access.url.trim_start_matches("https://");
    let name = upstream
        .parse()
        .map(|address: SocketAddr| address.ip().to_string());
    let name = name.map_err(|error| unexpected(format!("{upstream}: {error}")))?;
    let program = program(programs, hub)?
        .flag("upstream", upstream)
        .flag("name", name);
    let address = start(lab, REST, program)?;
    Ok(HubAccess {
        url: format!("https://{address}"),
        ..access.clone()
    })
}

/// What the agent of a device dials instead.
pub(crate) fn before_device(
    lab: &Lab,
    device: &Device,
    programs: &Programs,
    hub: &HubFiles,
    access: &HubAccess,
) -> Result<HubAccess, SiteError> {
    let id = files::read(&hub.ca().join("hub.id"))?;
    let id = id.trim().parse().map(HubId);
    let id = id.map_err(|_| unexpected("hub.id is no UUID".to_owned()))?;
    let program = program(programs, hub)?
        .flag("upstream", access.device_port)
        .flag("name", hub_server_name(id))
        .flag("client-key", agents::identity_key(device).display());
    let address = start(lab, &process(device.name()), program)?;
    Ok(HubAccess {
        device_port: address,
        ..access.clone()
    })
}

/// Where the taps of a site keep what passed: that before the REST API, and those before its devices.
pub(crate) fn directory(lab: &Lab, device: Option<&str>) -> PathBuf {
    lab.directory()
        .join(device.map_or_else(|| REST.to_owned(), process))
}

fn process(device: &str) -> String {
    format!("tap-{device}")
}

fn program(programs: &Programs, hub: &HubFiles) -> Result<Program, SiteError> {
    Ok(Program::new(programs.tap()?).flag("ca-dir", hub.ca().display()))
}

fn start(lab: &Lab, name: &str, program: Program) -> Result<SocketAddr, SiteError> {
    let directory = lab.directory().join(name);
    let program = program
        .flag("listen", SocketAddr::from((lab.address()?, 0)))
        .flag("directory", directory.display());
    let written = directory.join("address");
    lab.spawn(name, program)?
        .until("the tap listens", LISTEN_LIMIT, || Ok(written.exists()))?;
    read(&written)
}

fn read(path: &Path) -> Result<SocketAddr, SiteError> {
    let text = files::read(path)?;
    text.parse()
        .map_err(|error| unexpected(format!("{text}: {error}")))
}

fn unexpected(problem: String) -> SiteError {
    SiteError::Unexpected {
        command: "outrigger-tap",
        problem,
    }
}
