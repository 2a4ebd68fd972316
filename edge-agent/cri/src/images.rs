//! Calls about images.

use std::collections::BTreeMap;

use crate::client::{CriClient, WHOLE_RUNTIME, absent_is_done, within};
use crate::error::{CriError, Operation};
use crate::v1::{
    AuthConfig, FilesystemUsage, Image, ImageFsInfoRequest, ImageSpec, ImageStatusRequest, ListImagesRequest,
    PullImageRequest, RemoveImageRequest,
};

impl CriClient {
    /// All images of the runtime, whoever pulled them.
    pub async fn list_images(&self) -> Result<Vec<Image>, CriError> {
        let request = ListImagesRequest { filter: None };
        let answer = self
            .query(
                Operation::ListImages,
                WHOLE_RUNTIME,
                self.images().list_images(request),
            )
            .await?;
        Ok(answer.images)
    }

    /// The image that `reference` (a tag, a digest or an image id) names here; `None` when it is absent.
    pub async fn image_status(&self, reference: &str) -> Result<Option<Image>, CriError> {
        let request = ImageStatusRequest {
            image: Some(spec(reference)),
            verbose: false,
        };
        let answer = self
            .query(
                Operation::ImageStatus,
                reference,
                self.images().image_status(request),
            )
            .await?;
        Ok(answer.image)
    }

    /// Pulls an image, or finds that the registry's is already here, and gives the reference by which containers
    /// name it from then on. Idempotent.
    ///
    /// # Errors
    /// Which registry, mirror or proxy is asked is the runtime's configuration. containerd reports an image that the
    /// registry does not have as `NotFound` and most other failures as `Failed`, with the cause in the detail.
    pub async fn pull_image(&self, reference: &str, auth: Option<AuthConfig>) -> Result<String, CriError> {
        let operation = Operation::PullImage;
        let request = PullImageRequest {
            image: Some(spec(reference)),
            auth,
            sandbox_config: None,
        };
        let mut images = self.images();
        let answer = within(
            self.deadlines().pull,
            operation,
            reference,
            images.pull_image(request),
        )
        .await?;
        if answer.image_ref.is_empty() {
            return Err(CriError::malformed(operation, reference, "image_ref"));
        }
        Ok(answer.image_ref)
    }

    /// Removes an image by tag, digest or id. Idempotent: an absent one is success. Containers that were made from
    /// it keep running.
    pub async fn remove_image(&self, reference: &str) -> Result<(), CriError> {
        let request = RemoveImageRequest {
            image: Some(spec(reference)),
        };
        absent_is_done(
            self.change(
                Operation::RemoveImage,
                reference,
                self.images().remove_image(request),
            )
            .await,
        )
    }

    /// How full the file systems that hold images are.
    pub async fn image_fs_info(&self) -> Result<Vec<FilesystemUsage>, CriError> {
        let mut images = self.images();
        let call = images.image_fs_info(ImageFsInfoRequest {});
        let answer = self.query(Operation::ImageFsInfo, WHOLE_RUNTIME, call).await?;
        Ok(answer.image_filesystems)
    }
}

fn spec(reference: &str) -> ImageSpec {
    ImageSpec {
        image: reference.to_owned(),
        annotations: BTreeMap::new(),
    }
}
