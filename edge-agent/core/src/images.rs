//! Which images go when their disk fills up, by the kubelet's rule (`pkg/kubelet/images/image_gc_manager.go` of Kubernetes 1.37).

use std::collections::BTreeMap;

use crate::usage::Room;

/// An image younger than this is left alone, as `minimum-image-ttl-duration`.
const MIN_AGE_MS: u64 = 2 * 60_000;

/// In hundredths of the disk: above the first the least recently used go until the second is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImagePolicy {
    pub high_percent: u8,
    pub low_percent: u8,
}

impl Default for ImagePolicy {
    /// `imageGCHighThresholdPercent` and `imageGCLowThresholdPercent`.
    fn default() -> Self {
        Self {
            high_percent: 85,
            low_percent: 80,
        }
    }
}

/// An image that the runtime has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedImage {
    pub id: String,
    /// References and digests by which workloads may name it.
    pub names: Vec<String>,
    pub size_bytes: u64,
    /// The runtime's own word: its sandbox image.
    pub pinned: bool,
}

impl ObservedImage {
    /// Whether a workload or a container that says this name means this image. Short names of the default registry are completed.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        let known = |known: &String| {
            known == name
                || known
                    .strip_suffix(name)
                    .is_some_and(|before| before.ends_with('/'))
                || known.strip_suffix(":latest").is_some_and(|known| {
                    known == name
                        || known
                            .strip_suffix(name)
                            .is_some_and(|before| before.ends_with('/'))
                })
        };
        self.id == name || self.names.iter().any(known)
    }
}

/// When which image was first seen and last used, on the monotonic clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Images {
    known: BTreeMap<String, Life>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Life {
    first_ms: u64,
    used_ms: u64,
}

impl Images {
    /// Takes a list in. `is_used` says whether a workload names the image.
    pub(crate) fn observe(
        &mut self,
        images: &[ObservedImage],
        is_used: impl Fn(&ObservedImage) -> bool,
        now_ms: u64,
    ) {
        self.known
            .retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in images {
            let life = self.known.entry(image.id.clone()).or_insert(Life {
                first_ms: now_ms,
                used_ms: 0,
            });
            if image.pinned || is_used(image) {
                life.used_ms = now_ms;
            }
        }
    }

    /// What to remove, in this order: enough to come down to the low mark, or all that is not used when `all` is wanted.
    pub(crate) fn to_remove(
        &self,
        images: &[ObservedImage],
        disk: Room,
        policy: ImagePolicy,
        (now_ms, all): (u64, bool),
    ) -> Vec<String> {
        let mut free = if all { u64::MAX } else { excess(disk, policy) };
        let mut unused: Vec<(Life, &ObservedImage)> = images
            .iter()
            .filter_map(|image| Some((*self.known.get(&image.id)?, image)))
            .filter(|(life, image)| {
                !image.pinned && life.used_ms != now_ms && now_ms.saturating_sub(life.first_ms) >= MIN_AGE_MS
            })
            .collect();
        // The longest unused first, and of these the first that came.
        unused.sort_by_key(|(life, image)| (life.used_ms, life.first_ms, image.id.clone()));
        let mut gone = Vec::new();
        for (_, image) in unused {
            if free == 0 {
                break;
            }
            free = free.saturating_sub(image.size_bytes.max(1));
            gone.push(image.id.clone());
        }
        gone
    }
}

/// Bytes above the low mark, once the high one is reached.
fn excess(disk: Room, policy: ImagePolicy) -> u64 {
    if disk.capacity == 0 {
        return 0;
    }
    let available = u128::from(disk.available.min(disk.capacity));
    let capacity = u128::from(disk.capacity);
    let used_percent = 100 - available * 100 / capacity;
    if used_percent < u128::from(policy.high_percent) {
        return 0;
    }
    let wanted = capacity * u128::from(100 - policy.low_percent.min(100)) / 100;
    u64::try_from(wanted.saturating_sub(available)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn image(id: &str, size_bytes: u64) -> ObservedImage {
        ObservedImage {
            id: id.to_owned(),
            names: vec![id.to_owned()],
            size_bytes,
            pinned: id == "pause",
        }
    }

    fn disk(available: u64) -> Room {
        Room {
            capacity: 1000,
            available,
        }
    }

    #[test]
    fn the_longest_unused_go_until_the_low_mark_is_reached() {
        let all = [
            image("pause", 900),
            image("old", 30),
            image("older", 30),
            image("used", 500),
        ];
        let mut images = Images::default();
        images.observe(&all, |_| true, MINUTE);
        images.observe(&all, |image| image.id != "older", 2 * MINUTE);
        images.observe(&all, |image| image.id == "used", 5 * MINUTE);
        let remove =
            |available, now| images.to_remove(&all, disk(available), ImagePolicy::default(), (now, false));
        let nothing: [&str; 0] = [];
        assert_eq!(remove(160, 5 * MINUTE), nothing, "below the high mark");
        assert_eq!(remove(150, 5 * MINUTE), ["older", "old"], "50 bytes too many");
        assert_eq!(remove(100, 5 * MINUTE), ["older", "old"], "what is used stays");
        let every = images.to_remove(&all, disk(900), ImagePolicy::default(), (5 * MINUTE, true));
        assert_eq!(every, ["older", "old"], "what is used or pinned stays");
    }

    #[test]
    fn a_young_image_stays_and_one_that_went_is_forgotten() {
        let all = [image("new", 500)];
        let mut images = Images::default();
        images.observe(&all, |_| false, 0);
        let remove =
            |images: &Images, now| images.to_remove(&all, disk(0), ImagePolicy::default(), (now, false));
        assert!(remove(&images, 2 * MINUTE - 1).is_empty());
        assert_eq!(remove(&images, 2 * MINUTE), ["new"]);
        images.observe(&[], |_| false, 3 * MINUTE);
        images.observe(&all, |_| false, 4 * MINUTE);
        assert!(remove(&images, 5 * MINUTE).is_empty());
    }
}
