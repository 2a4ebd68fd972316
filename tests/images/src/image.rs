//! An image by the OCI image specification 1.0: layers, a config and the manifest that names both.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::json;
use sha2::{Digest, Sha256};

/// Media type of an image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Bytes and the digest that names them. Cheap to clone: tags share layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    digest: String,
    bytes: Arc<[u8]>,
}

impl Blob {
    /// Takes the bytes and computes their digest.
    pub fn new(bytes: Vec<u8>) -> Self {
        let mut digest = String::from("sha256:");
        for byte in Sha256::digest(&bytes) {
            write!(digest, "{byte:02x}").expect("a String takes all that is written");
        }
        Self {
            digest,
            bytes: bytes.into(),
        }
    }

    /// `sha256:` and 64 hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The content.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The platform that a config names, in Go's words.
#[derive(Clone, Copy, Debug)]
pub struct Platform {
    pub architecture: &'static str,
    pub os: &'static str,
}

impl Platform {
    /// The platform this code runs on; the static binaries in the images are built for it.
    pub const fn here() -> Self {
        let architecture = if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "amd64"
        };
        Self {
            architecture,
            os: "linux",
        }
    }
}

/// What a container of the image runs unless it is told otherwise.
#[derive(Clone, Debug, Default)]
pub struct ImageConfig {
    /// `NAME=value` each.
    pub env: Vec<String>,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
}

/// A tagged image, complete in memory.
#[derive(Clone, Debug)]
pub struct Image {
    name: String,
    tag: String,
    layers: Vec<Blob>,
    config: Blob,
    manifest: Blob,
}

impl Image {
    /// Assembles the image; layers apply in the order given.
    pub fn new(name: &str, tag: &str, platform: Platform, config: &ImageConfig, layers: Vec<Blob>) -> Self {
        let diff_ids: Vec<&str> = layers.iter().map(Blob::digest).collect();
        let config = json_blob(&json!({
            "architecture": platform.architecture,
            "os": platform.os,
            "config": { "Env": config.env, "Entrypoint": config.entrypoint, "Cmd": config.command },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        }));
        let manifest = json_blob(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config),
            "layers": layers.iter().map(|layer| descriptor(LAYER, layer)).collect::<Vec<_>>(),
        }));
        Self {
            name: name.to_owned(),
            tag: tag.to_owned(),
            layers,
            config,
            manifest,
        }
    }

    /// The same image under another name, such as `library/foo` and `latest`.
    #[must_use]
    pub fn named(&self, name: &str, tag: &str) -> Self {
        Self {
            name: name.to_owned(),
            tag: tag.to_owned(),
            ..self.clone()
        }
    }

    /// The repository's name, such as `busybox`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tag, such as `v1`.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The manifest; its digest is the image's.
    pub fn manifest(&self) -> &Blob {
        &self.manifest
    }

    /// Config and layers: all that the manifest refers to.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        std::iter::once(&self.config).chain(&self.layers)
    }

    /// What a pod names: `registry/name:tag`; `registry` is `host:port`.
    pub fn reference(&self, registry: &str) -> String {
        format!("{registry}/{}:{}", self.name, self.tag)
    }
}

/// A content descriptor as manifests and indexes hold it.
pub(crate) fn descriptor(media_type: &str, blob: &Blob) -> serde_json::Value {
    json!({ "mediaType": media_type, "digest": blob.digest(), "size": blob.bytes().len() })
}

pub(crate) fn json_blob(value: &serde_json::Value) -> Blob {
    Blob::new(value.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layer;

    fn image(content: &[u8]) -> Image {
        let layer = Layer::new()
            .directory("etc", 0o755)
            .unwrap()
            .file("etc/a", 0o644, content)
            .unwrap();
        let config = ImageConfig {
            entrypoint: vec!["/a".into()],
            ..ImageConfig::default()
        };
        Image::new(
            "a",
            "v1",
            Platform::here(),
            &config,
            vec![layer.finish().unwrap()],
        )
    }

    #[test]
    fn the_same_content_has_the_same_digest_and_another_has_another() {
        assert_eq!(image(b"x").manifest(), image(b"x").manifest());
        assert_ne!(image(b"x").manifest(), image(b"y").manifest());
    }

    #[test]
    fn the_manifest_names_config_and_layers_by_digest_and_size() {
        let image = image(b"x");
        let manifest: serde_json::Value = serde_json::from_slice(image.manifest().bytes()).unwrap();
        let named: Vec<_> = std::iter::once(&manifest["config"])
            .chain(manifest["layers"].as_array().unwrap())
            .map(|each| {
                (
                    each["digest"].as_str().unwrap().to_owned(),
                    each["size"].as_u64().unwrap(),
                )
            })
            .collect();
        let held: Vec<_> = image
            .blobs()
            .map(|blob| (blob.digest().to_owned(), blob.bytes().len() as u64))
            .collect();
        assert_eq!(named, held);
    }

    #[test]
    fn digests_are_those_of_sha256() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Blob::new(Vec::new()).digest(), empty);
    }
}
