//! Which cluster a bridge serves when its configuration names none: the one whose deployments the hub holds already.
//!
//! The first list pins a cluster for a process, and the leader lease for its successors, but both are that cluster's own word. Pointed at
//! another cluster, a bridge would meet an empty one that knows nothing of all this; only the hub remembers.

use std::fmt;

use edge_protocol::v1::Source;

/// The hub holds deployments that another cluster asked for under this node's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherCluster {
    pub node: String,
    pub ours: String,
    /// One of them, if there are several.
    pub theirs: String,
    pub deployments: usize,
}

impl fmt::Display for OtherCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            node,
            ours,
            theirs,
            deployments,
        } = self;
        write!(
            f,
            "this is cluster {ours}, but the hub holds {deployments} deployments of node {node} for cluster {theirs}: point \
             kubernetes.kubeconfig at that cluster; or, if this one takes its place, say so with kubernetes.cluster_uid = \"{ours}\" \
             (what the other asked for runs on until it is removed with `outrigger deployment` or `outrigger orphan rm`); or give \
             this node another node.name"
        )
    }
}

impl std::error::Error for OtherCluster {}

/// Whether a bridge without a configured cluster may serve `ours`, the cluster that answered. `held` are the sources of all live
/// deployments that the hub shows.
///
/// # Errors
/// [`OtherCluster`]: it must not, and a person has to say which cluster is meant.
pub fn judge_pin<'s>(ours: &Source, held: impl IntoIterator<Item = &'s Source>) -> Result<(), OtherCluster> {
    let mut theirs = held
        .into_iter()
        .filter(|source| source.node == ours.node && source.cluster_uid != ours.cluster_uid)
        .peekable();
    let Some(first) = theirs.peek() else { return Ok(()) };
    Err(OtherCluster {
        node: ours.node.clone(),
        ours: ours.cluster_uid.clone(),
        theirs: first.cluster_uid.clone(),
        deployments: theirs.count(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(cluster: &str, node: &str) -> Source {
        Source {
            cluster_uid: cluster.into(),
            node: node.into(),
        }
    }

    #[test]
    fn a_hub_that_serves_another_cluster_under_this_name_is_refused() {
        let ours = source("b", "outrigger");
        assert_eq!(judge_pin(&ours, []), Ok(()));
        let fine = [source("b", "outrigger"), source("a", "hall-7")];
        assert_eq!(judge_pin(&ours, &fine), Ok(()));
        let taken = [
            fine[0].clone(),
            source("a", "outrigger"),
            source("a", "outrigger"),
        ];
        let refusal = judge_pin(&ours, &taken).unwrap_err();
        assert_eq!((refusal.theirs.as_str(), refusal.deployments), ("a", 2));
        assert!(
            refusal.to_string().contains("kubernetes.cluster_uid = \"b\""),
            "{refusal}"
        );
    }
}
