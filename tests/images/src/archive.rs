//! An OCI image layout in a tar file, as `ctr images import` reads it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use crate::image::{self, Blob};
use crate::{Error, Image, Layer};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Writes `images` to `path`, each under the full name that the importing runtime shall know it by (see [`Image::reference`]).
/// An existing file is replaced as a whole: a reader sees the old or the new one.
///
/// # Errors
/// [`Error::File`] when the file cannot be written.
pub fn write(path: &Path, images: &[(&Image, String)]) -> Result<(), Error> {
    let mut blobs: BTreeMap<&str, &Blob> = BTreeMap::new();
    let mut manifests = Vec::new();
    for (image, reference) in images {
        blobs.extend(
            image
                .blobs()
                .chain([image.manifest()])
                .map(|blob| (blob.digest(), blob)),
        );
        let mut descriptor = image::descriptor(image::MANIFEST, image.manifest());
        descriptor["annotations"] = json!({
            "io.containerd.image.name": reference,
            "org.opencontainers.image.ref.name": image.tag(),
        });
        manifests.push(descriptor);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    // A layout is a tar of plain files, and so is a layer.
    let mut tar = Layer::new()
        .file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?
        .file("index.json", 0o644, index.to_string().as_bytes())?;
    for (digest, blob) in blobs {
        tar = tar.file(
            &format!("blobs/{}", digest.replace(':', "/")),
            0o644,
            blob.bytes(),
        )?;
    }
    let partial = path.with_extension("partial");
    std::fs::write(&partial, tar.finish()?.bytes()).map_err(Error::file(&partial))?;
    std::fs::rename(&partial, path).map_err(Error::file(path))
}
