//! The kubelet's HTTP API: what `kubectl logs`, `exec`, `attach`, `port-forward`, `cp` and `top` reach through the API server.
//!
//! One [`KubeletApi`] per process, with a [`Port`] for each node or one for all of them ([`Nodes`]). Reading order:
//!
//! * [`provider`]: the seam: [`PodStreams`] knows a node's pods and reaches their containers.
//! * [`serve`](KubeletApi): ports, TLS, connections, limits.
//! * `handle`: a request from who asks to the answer. Behind it, pure: `route`, [`LogOptions`], `pods`, `query`, `answer`.
//! * [`authentication`](Authenticator): client certificates of the cluster ([`follow_client_ca`]), else `TokenReview`.
//!   [`authorization`](Authorizer): `SubjectAccessReview` with the kubelet's fine-grained subresources. `review` asks, `cache` remembers.
//! * [`stats`]: figures as plain types, and what shows them.
//!
//! Paths, methods, statuses and words are those of `pkg/kubelet/server` of Kubernetes 1.37, since people and programs know them. Different
//! on purpose: whatever runs something needs `create nodes/proxy`, also by GET; a path that does not exist is nobody's to ask without
//! authentication; system logs, profiles and checkpoints are not served, and say so.
//!
//! It must not know of hubs, devices or runtimes, and it does not make its certificate: it is given what resolves it.

mod answer;
mod authentication;
mod authorization;
mod cache;
mod client_ca;
mod handle;
mod log_options;
mod pods;
pub mod provider;
mod query;
mod review;
mod route;
mod serve;
pub mod stats;
mod user;

pub use authentication::{AuthenticationError, Authenticator, CertificateError};
pub use authorization::{Attributes, AuthorizationError, Authorizer};
pub use client_ca::{ClientCaError, ClientCaSource, ClientRoots, client_roots, follow_client_ca};
pub use log_options::{LogOptions, LogOptionsError, LogSource};
pub use provider::{BytePipe, ContainerTarget, LogStream, Pod, PodStreams, PodTarget, StreamsError};
pub use query::Query;
pub use review::ReviewError;
pub use serve::{
    ApiLimits, ApiParts, BindError, FindNode, KubeletApi, Nodes, Port, ProcessFacts, ServedNode, StatsAccess,
};
pub use user::User;
