//! How images are pulled.

use std::num::NonZeroU32;

use serde::Deserialize;

/// By the kubelet's names and defaults (`KubeletConfiguration`): one pull at a time is also what a slow link and flash memory want.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct ImageSection {
    serialize_image_pulls: bool,
    /// Absent means as many as are wanted, where they are not serial.
    max_parallel_image_pulls: Option<u32>,
}

impl Default for ImageSection {
    fn default() -> Self {
        Self {
            serialize_image_pulls: true,
            max_parallel_image_pulls: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageOptions {
    /// How many images are pulled at the same time; absent means as many as are wanted.
    pub parallel_pulls: Option<NonZeroU32>,
}

impl ImageSection {
    /// As `ValidateKubeletConfiguration`.
    pub(super) fn check(self) -> Result<ImageOptions, (&'static str, String)> {
        const FIELD: &str = "images.max_parallel_image_pulls";
        let Self {
            serialize_image_pulls,
            max_parallel_image_pulls,
        } = self;
        let most = max_parallel_image_pulls
            .map(|most| NonZeroU32::new(most).ok_or((FIELD, "must be a positive number".to_owned())))
            .transpose()?;
        if serialize_image_pulls && most.is_some_and(|most| most > NonZeroU32::MIN) {
            let problem = "cannot be larger than 1 unless serialize_image_pulls is false".to_owned();
            return Err((FIELD, problem));
        }
        Ok(ImageOptions {
            parallel_pulls: if serialize_image_pulls {
                Some(NonZeroU32::MIN)
            } else {
                most
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulls_are_serial_unless_told_otherwise() {
        let check = |text: &str| {
            let section: ImageSection = toml::from_str(text).unwrap();
            section
                .check()
                .map(|options| options.parallel_pulls.map(NonZeroU32::get))
                .map_err(|(field, _)| field)
        };
        let field = "images.max_parallel_image_pulls";
        assert_eq!(check(""), Ok(Some(1)));
        assert_eq!(check("max_parallel_image_pulls = 1"), Ok(Some(1)));
        assert_eq!(check("max_parallel_image_pulls = 2"), Err(field));
        assert_eq!(check("serialize_image_pulls = false"), Ok(None));
        let both = "serialize_image_pulls = false\nmax_parallel_image_pulls = ";
        assert_eq!(check(&format!("{both}3")), Ok(Some(3)));
        assert_eq!(check(&format!("{both}0")), Err(field));
    }
}
