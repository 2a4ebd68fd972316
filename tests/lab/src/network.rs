//! A lab's network number, and every name and address that follows from it.
//!
//! | what | value for number N |
//! |---|---|
//! | bridge of the devices' links, on the machine | `orlN`, `10.127.N.1/24` |
//! | device I | `10.127.N.(10+I)`, namespace `orlN-<name>`, interface `orlNdI` on the machine, `eth0` inside |
//! | pods of device I | `10.(128+N).I.0/24`, routed to the device |
//! | ports that only the machine itself reaches | `127.127.N.1` |

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::process::ProcessId;
use crate::state::{Store, lock};
use crate::{Error, Program, sweep};

/// Network numbers on one machine.
const COUNT: u8 = 64;
/// Devices per lab.
pub const MAX_DEVICES: usize = 200;
/// Where the claims of all labs of the machine are; a tmpfs, so that they end with the boot.
const CLAIMS: &str = "/run/outrigger-lab";
const COMMAND_LIMIT: Duration = Duration::from_secs(10);

/// A claimed number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    number: u8,
}

/// Who holds a number; kept outside the lab's directory, so that the leftovers of a deleted directory can still be found.
#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    token: String,
    directory: PathBuf,
    /// Who is about to write the state file.
    claimant: ProcessId,
}

impl Claim {
    /// Claimed, and its state is just about to be written.
    fn is_fresh(&self) -> bool {
        self.claimant.is_alive()
    }
}

impl Network {
    #[cfg(test)]
    pub fn numbered(number: u8) -> Self {
        Self { number }
    }

    /// Takes the lowest free number. A claim whose directory holds its lab no longer is swept and taken over.
    pub fn claim(directory: &Path, token: &str) -> Result<Self, Error> {
        fs::create_dir_all(CLAIMS).map_err(Error::file(CLAIMS))?;
        let _lock = lock(&Path::new(CLAIMS).join("lock"))?;
        for number in 0..COUNT {
            let network = Self { number };
            if network.is_held()? {
                continue;
            }
            let claimant = ProcessId::mine();
            let claim = Claim {
                token: token.to_owned(),
                directory: directory.to_owned(),
                claimant,
            };
            let path = network.claim_file();
            let bytes = serde_json::to_vec(&claim).map_err(|source| Error::State {
                path: path.clone(),
                source,
            })?;
            fs::write(&path, bytes).map_err(Error::file(path))?;
            return Ok(network);
        }
        Err(Error::NoNetwork { count: COUNT })
    }

    /// Whether a lab that exists holds the number. Leftovers of one that does not are removed.
    fn is_held(self) -> Result<bool, Error> {
        // Without a claim, a bridge of that name belongs to somebody else.
        let Some(claim) = self.claimant()? else {
            return Ok(self.has_bridge());
        };
        if claim.directory.exists() {
            let lives = match Store::in_directory(&claim.directory).load() {
                Ok(state) => state.token == claim.token,
                Err(Error::NoLab { .. }) => claim.is_fresh(),
                Err(error) => return Err(error),
            };
            if lives {
                return Ok(true);
            }
        }
        sweep::remove_traces(self, &claim.token, &claim.directory)?;
        Ok(false)
    }

    fn claimant(self) -> Result<Option<Claim>, Error> {
        let path = self.claim_file();
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| Error::State { path, source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file(path)(error)),
        }
    }

    /// Gives the number back.
    pub fn release(self) -> Result<(), Error> {
        let path = self.claim_file();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file(path)(error)),
            _ => Ok(()),
        }
    }

    fn claim_file(self) -> PathBuf {
        Path::new(CLAIMS).join(format!("{}.json", self.number))
    }

    pub fn bridge(self) -> String {
        format!("orl{}", self.number)
    }

    pub fn has_bridge(self) -> bool {
        Path::new("/sys/class/net").join(self.bridge()).exists()
    }

    /// The machine's address on the bridge.
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 127, self.number, 1)
    }

    pub fn loopback(self) -> Ipv4Addr {
        Ipv4Addr::new(127, 127, self.number, 1)
    }

    pub fn device_address(self, device: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 127, self.number, 10 + device)
    }

    pub fn device_link(self, device: u8) -> String {
        format!("orl{}d{device}", self.number)
    }

    pub fn pod_subnet(self, device: u8) -> String {
        format!("10.{}.{device}.0/24", 128 + u16::from(self.number))
    }

    /// What every network namespace of the lab begins with.
    pub fn namespace_prefix(self) -> String {
        format!("orl{}-", self.number)
    }

    /// What every cgroup of the lab begins with.
    pub fn cgroup_prefix(self) -> String {
        format!("outrigger-l{}-", self.number)
    }

    /// Creates the bridge.
    pub fn create_bridge(self) -> Result<(), Error> {
        let bridge = self.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}/24", self.address()), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])
    }

    /// Removes the bridge when it is there, and with it the routes over it.
    pub fn remove_bridge(self) -> Result<(), Error> {
        if self.has_bridge() {
            ip(&["link", "del", &self.bridge()])
        } else {
            Ok(())
        }
    }
}

/// Removes the traces of labs that claimed a number for this directory and are not in it any more, and gives the numbers back.
pub fn sweep_claims_of(directory: &Path) -> Result<(), Error> {
    if !Path::new(CLAIMS).exists() {
        return Ok(());
    }
    let _lock = lock(&Path::new(CLAIMS).join("lock"))?;
    for network in (0..COUNT).map(|number| Network { number }) {
        if network
            .claimant()?
            .is_some_and(|claim| claim.directory == directory)
            && !network.is_held()?
        {
            network.release()?;
        }
    }
    Ok(())
}

/// Runs `ip` with the arguments.
pub fn ip(arguments: &[&str]) -> Result<(), Error> {
    Program::new("ip")
        .args(arguments.iter().copied())
        .run(COMMAND_LIMIT)
        .map(drop)
}

/// Ports that are given away: below those that the kernel gives to connections (`net.ipv4.ip_local_port_range`), or one of them could be taken
/// before its server binds it.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A port that is free on this address now, and given to nobody else of this process. The address is the lab's own, so no other lab can take it
/// meanwhile.
pub fn free_port(address: Ipv4Addr) -> Result<u16, Error> {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    let mut last = None;
    for _ in 0..count {
        let port = PORTS.start + GIVEN.fetch_add(1, Ordering::Relaxed) % count;
        match TcpListener::bind((IpAddr::V4(address), port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = Some(error),
        }
    }
    Err(Error::Command {
        command: format!("bind {address}"),
        reason: last.map_or_else(String::new, |error| error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_numbers_do_not_share_prefixes() {
        let last = Network::numbered(COUNT - 1);
        // IFNAMSIZ is 16 with the final NUL.
        let devices = u8::try_from(MAX_DEVICES).unwrap();
        assert!(last.device_link(devices).len() <= 15);
        assert_eq!(last.pod_subnet(devices), "10.191.200.0/24");
        assert_eq!(last.device_address(devices).octets()[3], 210);
        let (one, twelve) = (Network::numbered(1), Network::numbered(12));
        assert!(!twelve.namespace_prefix().starts_with(&one.namespace_prefix()));
        assert!(!twelve.cgroup_prefix().starts_with(&one.cgroup_prefix()));
    }
}
