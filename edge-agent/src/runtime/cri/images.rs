//! Images: found on the device, or pulled.

use edge_agent_core::step::StepOutcome;
use edge_agent_cri::CriError;
use edge_agent_cri::v1::Image;
use edge_protocol::v1::Reason;

use super::{Inner, reference};

/// Why an image was neither found nor said to be absent. The words are the kubelet's (`image_manager.go`), those of the runtime are as a
/// kubelet prints them.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImageFault {
    #[error("Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: {why}")]
    Name { image: String, why: String },
    #[error("Failed to inspect image {image:?}: {}", .error.as_status())]
    Inspect { image: String, error: CriError },
    #[error("{}", .0.as_status())]
    Pull(CriError),
    #[error("the runtime pulled {image:?} and does not have it")]
    Lost { image: String },
}

impl ImageFault {
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Name { .. } => Reason::InvalidImageName,
            Self::Inspect { .. } => Reason::ImageInspectError,
            Self::Pull(_) | Self::Lost { .. } => Reason::ErrImagePull,
        }
    }
}

impl Inner {
    pub(super) async fn find_image(&self, image: &str) -> Result<StepOutcome, ImageFault> {
        check_name(image)?;
        let found = self.client.image_status(image).await;
        let found = found.map_err(|error| ImageFault::Inspect {
            image: image.to_owned(),
            error,
        })?;
        Ok(found.map_or(StepOutcome::NoImage, present))
    }

    pub(super) async fn pull_image(&self, image: &str) -> Result<StepOutcome, ImageFault> {
        check_name(image)?;
        let pulled = self.client.pull_image(image, None).await;
        let pulled = pulled.map_err(ImageFault::Pull)?;
        let found = self
            .client
            .image_status(&pulled)
            .await
            .map_err(ImageFault::Pull)?;
        found.map(present).ok_or_else(|| ImageFault::Lost {
            image: image.to_owned(),
        })
    }
}

fn check_name(image: &str) -> Result<(), ImageFault> {
    reference::fault(image).map_or(Ok(()), |why| {
        Err(ImageFault::Name {
            image: image.to_owned(),
            why,
        })
    })
}

/// The id is what a pod status shows: the digest in a registry, or the local id of an image that came without one.
fn present(image: Image) -> StepOutcome {
    StepOutcome::Image {
        size_bytes: image.size,
        image_id: image.repo_digests.into_iter().next().unwrap_or(image.id),
    }
}
