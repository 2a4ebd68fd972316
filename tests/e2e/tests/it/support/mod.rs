//! What all topics share: a site that goes with its test, waiting, and looking at cluster, hub and devices.

mod api;
mod containers;
mod kubectl;
mod manifests;
mod outrigger;
mod pods;
mod relay;
mod site;
mod timeline;
mod wait;
mod watching;

pub use api::Api;
pub use containers::{Instance, Instances};
pub use kubectl::{Talking, WAYS, Way};
pub use manifests::{busybox, deployment, job, pod, server};
pub use pods::{condition, is_ready, name, reason_of_waiting, restarts, terminations, uid};
pub use relay::Relay;
pub use site::{TestSite, TestSiteOptions};
pub use timeline::Timeline;
pub use wait::{eventually, throughout, within};
pub use watching::Change;
