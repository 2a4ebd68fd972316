//! The images that tests use, and how `v1` and `v2` differ.

use std::path::Path;
use std::process::Command;

use crate::{Blob, Error, Image, ImageConfig, Layer, Platform, build_server};

/// Every image is there under both tags; they differ by the environment variable `VERSION` and the file `/etc/version`.
pub const TAGS: [&str; 2] = ["v1", "v2"];
/// The names in the catalogue.
pub const NAMES: [&str; 3] = ["busybox", "server", "pause"];

const BUSYBOX: &str = "/bin/busybox";
const PATH: &str = "PATH=/bin:/usr/bin:/sbin:/usr/sbin";

/// All images, held in memory (a few megabytes).
#[derive(Clone, Debug)]
pub struct Catalogue {
    images: Vec<Image>,
}

impl Catalogue {
    /// Builds the server's binary when it is missing or out of date, then all images. `workspace` is the root of the repository,
    /// `cache` a directory that cargo may fill. Several processes may do this at once; cargo's lock orders them.
    ///
    /// # Errors
    /// [`Error::File`] when busybox-static is not installed, [`Error::Command`] when the build fails.
    pub fn build(workspace: &Path, cache: &Path) -> Result<Self, Error> {
        let server = build_server(workspace, cache)?;
        Self::assemble(Path::new(BUSYBOX), &server)
    }

    /// The images from two binaries that are there already.
    ///
    /// # Errors
    /// As [`Catalogue::build`].
    pub fn assemble(busybox: &Path, server: &Path) -> Result<Self, Error> {
        let busybox = busybox_layer(busybox)?;
        let server = server_layer(server)?;
        let mut images = Vec::new();
        for tag in TAGS {
            let version = version_layer(tag)?;
            for name in NAMES {
                let (base, entrypoint, command): (&Blob, &[&str], &[&str]) = match name {
                    "busybox" => (&busybox, &[], &["sh"]),
                    "server" => (&server, &["/server"], &["http", "--port", "8080"]),
                    _ => (&server, &["/server", "pause"], &[]),
                };
                let config = ImageConfig {
                    env: vec![PATH.to_owned(), format!("VERSION={tag}")],
                    entrypoint: entrypoint.iter().map(ToString::to_string).collect(),
                    command: command.iter().map(ToString::to_string).collect(),
                };
                let layers = vec![base.clone(), version.clone()];
                images.push(Image::new(name, tag, Platform::here(), &config, layers));
            }
        }
        Ok(Self { images })
    }

    /// All images, in a fixed order.
    pub fn images(&self) -> &[Image] {
        &self.images
    }

    /// The image `name:tag`, when the catalogue has it.
    pub fn get(&self, name: &str, tag: &str) -> Option<&Image> {
        self.images
            .iter()
            .find(|image| image.name() == name && image.tag() == tag)
    }
}

fn busybox_layer(busybox: &Path) -> Result<Blob, Error> {
    let binary = std::fs::read(busybox).map_err(Error::file(busybox))?;
    let listed = Command::new(busybox)
        .arg("--list")
        .output()
        .map_err(Error::file(busybox))?;
    if !listed.status.success() {
        let command = format!("{} --list", busybox.display());
        return Err(Error::Command {
            command,
            reason: listed.status.to_string(),
        });
    }
    let applets = String::from_utf8_lossy(&listed.stdout);
    let mut layer = base()?
        .directory("bin", 0o755)?
        .file("bin/busybox", 0o755, &binary)?;
    for applet in applets
        .lines()
        .filter(|name| *name != "busybox" && !name.contains('/'))
    {
        layer = layer.symlink(&format!("bin/{applet}"), "busybox")?;
    }
    layer.finish()
}

fn server_layer(server: &Path) -> Result<Blob, Error> {
    let binary = std::fs::read(server).map_err(Error::file(server))?;
    base()?.file("server", 0o755, &binary)?.finish()
}

/// What any program expects to find.
fn base() -> Result<Layer, Error> {
    Layer::new()
        .directory("etc", 0o755)?
        .file(
            "etc/passwd",
            0o644,
            b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        )?
        .file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?
        .directory("root", 0o700)?
        .directory("tmp", 0o1777)
}

fn version_layer(tag: &str) -> Result<Blob, Error> {
    Layer::new()
        .file("etc/version", 0o644, format!("{tag}\n").as_bytes())?
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_there_under_both_tags_and_the_tags_differ() {
        let server = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(server.path(), b"not run here").unwrap();
        let catalogue = Catalogue::assemble(Path::new(BUSYBOX), server.path()).unwrap();
        assert_eq!(catalogue.images().len(), NAMES.len() * TAGS.len());
        for name in NAMES {
            let digest = |tag| catalogue.get(name, tag).unwrap().manifest().digest().to_owned();
            assert_ne!(digest("v1"), digest("v2"), "{name}");
        }
        assert!(catalogue.get("busybox", "v3").is_none());
    }
}
