//! Pushing by the OCI distribution API 1.0: blobs first, then the manifest that names them.

use std::net::SocketAddr;

use crate::http::{self, Answer, Request};
use crate::image::{self, Blob};
use crate::{Error, Image};

const BYTES: &str = "application/octet-stream";

/// Pushes the image to a plain-HTTP registry. Blobs that the registry has are not sent again, so a repeated push is cheap and changes nothing.
///
/// # Errors
/// [`Error::Exchange`] when the registry cannot be reached, [`Error::Refused`] when it does not accept a part.
pub fn push(registry: SocketAddr, image: &Image) -> Result<(), Error> {
    let repository = Repository {
        registry,
        name: image.name(),
    };
    for blob in image.blobs() {
        repository.ensure_blob(blob)?;
    }
    let target = format!("/v2/{}/manifests/{}", image.name(), image.tag());
    repository
        .send("PUT", &target, image::MANIFEST, image.manifest().bytes(), &[201])
        .map(drop)
}

struct Repository<'a> {
    registry: SocketAddr,
    name: &'a str,
}

impl Repository<'_> {
    fn ensure_blob(&self, blob: &Blob) -> Result<(), Error> {
        let path = format!("/v2/{}/blobs/{}", self.name, blob.digest());
        if self.send("HEAD", &path, BYTES, &[], &[200, 404])?.status == 200 {
            return Ok(());
        }
        let uploads = format!("/v2/{}/blobs/uploads/", self.name);
        let opened = self.send("POST", &uploads, BYTES, &[], &[202])?;
        let location = opened.location.as_deref().unwrap_or_default();
        // The registry may answer with an absolute URL; what follows the authority is what is asked for.
        let path = location
            .strip_prefix("http://")
            .and_then(|rest| rest.find('/').map(|at| &rest[at..]))
            .unwrap_or(location);
        let separator = if path.contains('?') { '&' } else { '?' };
        let target = format!("{path}{separator}digest={}", blob.digest());
        self.send("PUT", &target, BYTES, blob.bytes(), &[201]).map(drop)
    }

    fn send(
        &self,
        method: &str,
        target: &str,
        content_type: &str,
        body: &[u8],
        accepted: &[u16],
    ) -> Result<Answer, Error> {
        let request = || format!("{method} {target}");
        let answer = http::exchange(
            self.registry,
            &Request {
                method,
                target,
                content_type,
                body,
            },
        )
        .map_err(|source| Error::Exchange {
            registry: self.registry.to_string(),
            request: request(),
            source,
        })?;
        if accepted.contains(&answer.status) {
            return Ok(answer);
        }
        let registry = self.registry.to_string();
        Err(Error::Refused {
            registry,
            request: request(),
            status: answer.status,
            body: answer.body,
        })
    }
}
