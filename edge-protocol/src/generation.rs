//! The generation law: the only place that says whether something offered may replace something held.

use crate::Digest;

/// What an offer is, seen from what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Older than what is held: never acted on.
    Stale,
    /// The same version with other content: never acted on; a person must look.
    Conflict,
    /// What is held already: accepted again, quietly.
    Same,
    /// Validate all of it, persist it, acknowledge it, and only then act on it.
    Newer,
}

/// Compares what is offered with what is held; a side is its version and the digest of its content.
///
/// It serves device sets (version = [`SetGeneration`](crate::SetGeneration)) and deployments
/// (version = [`DeploymentRevision`](crate::DeploymentRevision)) alike. Nothing held accepts any version, which is not yet
/// permission to act: a device without a trusted generation takes only a complete snapshot (the session's rule, not this one's).
pub fn judge<V: Ord>(held: Option<(V, Digest)>, offered: (V, Digest)) -> Verdict {
    let Some((held_version, held_digest)) = held else {
        return Verdict::Newer;
    };
    let (version, digest) = offered;
    match version.cmp(&held_version) {
        std::cmp::Ordering::Less => Verdict::Stale,
        std::cmp::Ordering::Greater => Verdict::Newer,
        std::cmp::Ordering::Equal if digest == held_digest => Verdict::Same,
        std::cmp::Ordering::Equal => Verdict::Conflict,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Incarnation, SetGeneration};

    fn side((incarnation, n, content): (u64, u64, &str)) -> (SetGeneration, Digest) {
        (
            SetGeneration {
                incarnation: Incarnation(incarnation),
                n,
            },
            Digest::of(content),
        )
    }

    #[track_caller]
    fn check(held: Option<(u64, u64, &str)>, offered: (u64, u64, &str), expect: Verdict) {
        assert_eq!(judge(held.map(side), side(offered)), expect);
    }

    #[test]
    fn table() {
        check(None, (1, 1, "a"), Verdict::Newer);
        check(Some((1, 4, "a")), (1, 5, "b"), Verdict::Newer);
        check(Some((1, 4, "a")), (1, 5, "a"), Verdict::Newer);
        check(Some((1, 4, "a")), (1, 4, "a"), Verdict::Same);
        check(Some((1, 4, "a")), (1, 4, "b"), Verdict::Conflict);
        check(Some((1, 4, "a")), (1, 3, "a"), Verdict::Stale);
        check(Some((1, 900, "a")), (2, 1, "a"), Verdict::Newer);
        check(Some((2, 1, "a")), (1, 900, "b"), Verdict::Stale);
    }

    proptest! {
        #[test]
        fn of_two_sides_at_most_one_is_newer(a in 0u64..3, b in 0u64..3, x in "[ab]", y in "[ab]") {
            let one = (a, Digest::of(&x));
            let two = (b, Digest::of(&y));
            let forth = judge(Some(one), two);
            let back = judge(Some(two), one);
            let expected = match forth {
                Verdict::Newer => Verdict::Stale,
                Verdict::Stale => Verdict::Newer,
                same_both_ways => same_both_ways,
            };
            prop_assert_eq!(back, expected);
        }
    }
}
