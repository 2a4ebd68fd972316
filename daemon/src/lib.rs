//! What `outrigger-hub` and `outrigger-kubelet` do alike as processes of a server: a configuration file, logs, signals, metrics.
//!
//! * [`config`]: typed, closed files: an unknown key is an error with its line.
//! * [`log`]: structured lines on standard error.
//! * [`signals`]: the first SIGTERM stops cleanly, a second one exits at once.
//! * [`metrics`]: the registry as `OpenMetrics` text.
//!
//! It knows nothing of hubs, devices or Kubernetes. `outrigger-agent` does without it: its tree is kept small, and its configuration
//! must survive a downgrade (unknown keys only warn there).

pub mod config;
pub mod log;
pub mod metrics;
pub mod signals;

pub use config::{ConfigError, HealthOptions};
pub use log::{LogFormat, LogOptions};
