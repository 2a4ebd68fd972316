//! Images: found on the device, or pulled.

use edge_agent_core::step::StepOutcome;
use edge_agent_cri::CriError;
use edge_agent_cri::v1::{AuthConfig, Image};
use edge_protocol::v1::object::kind;
use edge_protocol::v1::{Manifest, Reason};
use tracing::warn;

use super::Inner;
use super::steps::StepFailure;
use crate::runtime::keyring::{Credential, Keyring};
use crate::runtime::reference;
use crate::runtime::sources::Sources;

/// The one key of a pull credential.
const DOCKER_CONFIG: &str = ".dockerconfigjson";

/// Why an image was neither found nor said to be absent. The words are the kubelet's (`image_manager.go`), those of the runtime are as a
/// kubelet prints them.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImageFault {
    #[error("Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: {why}")]
    Name { image: String, why: String },
    #[error("Failed to inspect image {image:?}: {}", .error.as_status())]
    Inspect { image: String, error: CriError },
    #[error("{0}")]
    Pull(String),
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

    pub(super) async fn pull_image(
        &self,
        image: &str,
        manifest: &Manifest,
    ) -> Result<StepOutcome, StepFailure> {
        check_name(image)?;
        let keyring = self.keyring(manifest)?;
        let (pulled, secret) = self.pull_with(image, &keyring.lookup(image)).await?;
        let found = self.client.image_status(&pulled).await;
        let found = found.map_err(|error| ImageFault::Pull(error.as_status()))?;
        let found = found.ok_or_else(|| ImageFault::Lost {
            image: image.to_owned(),
        })?;
        Ok(StepOutcome::Image {
            image_id: found.id,
            size_bytes: found.size,
            secret,
        })
    }

    /// Each credential in turn (`PullImage` of `pkg/kubelet/kuberuntime/kuberuntime_image.go`); the image, and whose credential served.
    async fn pull_with(
        &self,
        image: &str,
        credentials: &[&Credential],
    ) -> Result<(String, Option<String>), ImageFault> {
        if credentials.is_empty() {
            let pulled = self.client.pull_image(image, None).await;
            let pulled = pulled.map_err(|error| ImageFault::Pull(error.as_pull()))?;
            return Ok((pulled, None));
        }
        let mut faults: Vec<String> = Vec::new();
        for credential in credentials {
            let auth = AuthConfig {
                username: credential.username.clone(),
                password: credential.password.to_string(),
                ..AuthConfig::default()
            };
            match self.client.pull_image(image, Some(auth)).await {
                Ok(pulled) => return Ok((pulled, Some(credential.secret.clone()))),
                Err(error) => {
                    let fault = without(&credential.password, error.as_pull());
                    if !faults.contains(&fault) {
                        faults.push(fault);
                    }
                }
            }
        }
        // As Go's `NewAggregate` prints them.
        Err(ImageFault::Pull(match faults.as_slice() {
            [only] => only.clone(),
            several => format!("[{}]", several.join(", ")),
        }))
    }

    /// The credentials of the pod's pull secrets, in its order. A secret that is not there was told of; one that is no docker configuration
    /// is passed over.
    fn keyring(&self, manifest: &Manifest) -> Result<Keyring, StepFailure> {
        let mut keyring = Keyring::default();
        let sources = Sources {
            manifest,
            objects: &self.objects,
            pod_ips: &[],
            host_ips: &[],
            capacity: self.settings.capacity,
        };
        for name in &manifest.workload.pull_secrets {
            let Some(secret) = sources.listed(kind::PULL_CREDENTIAL, name)? else {
                continue;
            };
            let text = secret.get(DOCKER_CONFIG).unwrap_or_default();
            if let Err(error) = keyring.add_json(name, text) {
                warn!(uid = %manifest.uid, secret = name, %error, "a pull secret is of no use");
            }
        }
        Ok(keyring)
    }
}

/// What a runtime says may quote what it was given.
fn without(password: &str, text: String) -> String {
    if password.is_empty() {
        text
    } else {
        text.replace(password, "***")
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

fn present(image: Image) -> StepOutcome {
    StepOutcome::Image {
        image_id: image.id,
        size_bytes: image.size,
        secret: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_repeated() {
        let said = "401: me:hunter2 is wrong".to_owned();
        assert_eq!(without("hunter2", said.clone()), "401: me:*** is wrong");
        assert_eq!(without("", said.clone()), said);
    }
}
