//! Debian's docker-registry on the lab's bridge, with the test images in it.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use test_images::Catalogue;

use crate::network::free_port;
use crate::process::Process;
use crate::state::Store;
use crate::{Error, Program};

/// The name under which every device knows its lab's registry, so that examples need not know an address.
pub const IMAGES_HOST: &str = "images.outrigger.local";

/// Whose images the lab's registry has instead: `foo` is its `library/foo`. What it does not have is nowhere.
pub const DOCKER_HUB: &str = "docker.io";

/// As [`IMAGES_HOST`], of the door that opens to [`PRIVATE_USER`] with [`PRIVATE_PASSWORD`] only.
pub const PRIVATE_HOST: &str = "private.outrigger.local";
pub const PRIVATE_USER: &str = "lab";
pub const PRIVATE_PASSWORD: &str = "let-me-in";
/// The password as the registry wants it.
const PRIVATE_HASH: &str = "$2b$05$abcdefghijklmnopqrstuu3Jd./u/rH1RxB6auX5v7gLP6uWhKCgG";

const PROCESS: &str = "registry";
const PRIVATE_PROCESS: &str = "registry-private";
const START_LIMIT: Duration = Duration::from_secs(20);
const DIAL_LIMIT: Duration = Duration::from_secs(1);

/// The registry; devices reach it over plain HTTP at [`Registry::host`].
#[derive(Clone, Debug)]
pub struct Registry {
    store: Store,
    address: SocketAddr,
    private: SocketAddr,
}

impl Registry {
    pub(crate) fn open(store: &Store) -> Result<Self, Error> {
        let state = store.load()?;
        let address = state.registry.ok_or_else(|| Error::no_part(PROCESS))?;
        Ok(Self {
            store: store.clone(),
            address,
            private: state
                .private_registry
                .ok_or_else(|| Error::no_part(PRIVATE_PROCESS))?,
        })
    }

    /// Starts the registry and pushes every image of the catalogue.
    pub(crate) fn create(store: &Store, images: &Catalogue) -> Result<Self, Error> {
        let home = store.directory().join("registry");
        fs::create_dir_all(&home).map_err(Error::file(&home))?;
        let network = store.load()?.network;
        let address = SocketAddr::from((network.address(), free_port(network.address())?));
        store.set(|state| state.registry = Some(address))?;
        serve(store, PROCESS, address, None)?;
        let private = SocketAddr::from((network.address(), free_port(network.address())?));
        let registry = Self {
            store: store.clone(),
            address,
            private,
        };
        registry.wait_until_ready()?;
        store.set(|state| state.private_registry = Some(private))?;
        let users = home.join("users");
        fs::write(&users, format!("{PRIVATE_USER}:{PRIVATE_HASH}\n")).map_err(Error::file(&users))?;
        serve(store, PRIVATE_PROCESS, private, Some(&users))?;
        for image in images.images() {
            test_images::push(address, image).map_err(Error::Images)?;
        }
        Ok(registry)
    }

    /// `address:port` of the door that asks who is there; devices know it as [`PRIVATE_HOST`].
    pub(crate) fn private_host(&self) -> String {
        self.private.to_string()
    }

    /// `address:port`; devices also know it as [`IMAGES_HOST`].
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Where further images can be pushed with [`test_images::push`].
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The reference of an image, such as `reference("busybox", "v1")`. [`test_images::NAMES`] and [`test_images::TAGS`] list what is there.
    pub fn reference(&self, name: &str, tag: &str) -> String {
        format!("{}/{name}:{tag}", self.address)
    }

    /// Its process; kill it to see what a missing registry does, `start` it again and [`Registry::wait_until_ready`].
    pub fn process(&self) -> Process {
        Process::new(&self.store, PROCESS)
    }

    /// Returns when it accepts connections.
    ///
    /// # Errors
    /// [`Error::Ended`] or [`Error::Deadline`] when it does not.
    pub fn wait_until_ready(&self) -> Result<(), Error> {
        let dial = || Ok(TcpStream::connect_timeout(&self.address, DIAL_LIMIT).is_ok());
        self.process().until("the registry listens", START_LIMIT, dial)
    }
}

/// Starts one process over the lab's images, for everybody or for the users of a file.
fn serve(store: &Store, process: &str, address: SocketAddr, users: Option<&Path>) -> Result<(), Error> {
    let home = store.directory().join("registry");
    let config = home.join(format!("{process}.json"));
    // JSON is YAML, which the registry reads.
    let mut text = serde_json::json!({
        "version": "0.1",
        "log": { "level": "warn", "accesslog": { "disabled": true } },
        "storage": { "filesystem": { "rootdirectory": home.join("data") }, "delete": { "enabled": true } },
        "http": { "addr": address.to_string(), "relativeurls": true, "secret": "the lab's" },
    });
    if let Some(users) = users {
        text["auth"] = serde_json::json!({ "htpasswd": { "realm": "lab", "path": users } });
    }
    fs::write(&config, text.to_string()).map_err(Error::file(&config))?;
    let program = Program::new("docker-registry")
        .arg("serve")
        .arg(config.display().to_string());
    Process::spawn(store, process, program)?;
    Ok(())
}
