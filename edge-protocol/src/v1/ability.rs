//! The words of [`Manifest::requires`](super::Manifest) and of an agent's features.
//!
//! A manifest that uses a field which agents did not know from the first day names the word for it; an agent that lacks the word refuses by
//! name instead of dropping the field. A word's meaning never changes: more of a thing is a new word.

/// Sources of variables beside literals, `envFrom`, and `$(VAR)` that the device expands.
pub const ENV_SOURCES: &str = "env-sources";
pub const INIT_CONTAINERS: &str = "init-containers";
pub const PROBES: &str = "probes";
/// `postStart` and `preStop`.
pub const LIFECYCLE: &str = "lifecycle";
/// A stop signal of the container's own. Only some runtimes can.
pub const STOP_SIGNAL: &str = "stop-signal";
/// Restart policies and rules of single containers.
pub const CONTAINER_RESTART: &str = "container-restart";
pub const ACTIVE_DEADLINE: &str = "active-deadline";
pub const TERMINAL: &str = "terminal";
/// Termination messages are read.
pub const TERMINATION_MESSAGE: &str = "termination-message";
/// Users, groups, capabilities, profiles and the rest of [`security`](super::manifest).
pub const SECURITY: &str = "security";
pub const APPARMOR: &str = "apparmor";
/// Namespaces of the device, and shared processes.
pub const NAMESPACES: &str = "namespaces";
/// Names, host aliases and resolver settings.
pub const NAMES: &str = "names";
pub const POD_RESOURCES: &str = "pod-resources";
/// What a workload has as a whole changes in place.
pub const POD_RESIZE: &str = "pod-resources.resize";
/// What an initial container has changes in place, also of one that runs to its end.
pub const INIT_RESIZE: &str = "init-containers.resize";
pub const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
pub const EMPTY_DIR: &str = "volumes.empty-dir";
pub const HOST_PATH: &str = "volumes.host-path";
pub const PROJECTED: &str = "volumes.projected";
pub const IMAGE_VOLUME: &str = "volumes.image";
pub const LOCAL: &str = "volumes.local";
/// Containers that are started in a workload that runs.
pub const EPHEMERAL_CONTAINERS: &str = "ephemeral-containers";
/// Streams over a tunnel that the device dials. No manifest asks for it.
pub const STREAMS: &str = "streams";
/// What the device and its workloads use, told while somebody asks. No manifest asks for it.
pub const STATS: &str = "stats";
/// Objects beside the manifest, in clear.
pub const OBJECTS: &str = "objects";
/// Objects that are sealed.
pub const SEALED_OBJECTS: &str = "objects.sealed";
/// `imagePullSecrets`.
pub const PULL_CREDENTIALS: &str = "pull-credentials";
