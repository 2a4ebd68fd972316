//! The documents of version 1, on the wire and on disk. Append-only: fields are added with a default, never renamed, re-typed or reused.
//!
//! * [`manifest`]: what to run, the same bytes for every device; [`Tombstone`]: what to stop.
//! * [`object`]: the blobs beside a manifest, in clear and sealed; [`ability`]: what a manifest may require.
//! * [`status`]: what a device observed of one workload, and where that stands on the ladder.
//! * [`deployment`]: what a provider asks of the hub, and the hub's roll-up of what the devices said.
//! * [`facts`]: what a device claims to be; [`amounts`]: what of it workloads may have; [`enrol`]: how it came by its certificate.
//! * [`up`] and [`down`]: the frames between a device and the hub; [`stream`]: what opens a stream beside them; [`log_frames`]: what one with a log
//!   carries; [`stats`]: what a device uses, told while somebody asks.

pub mod ability;
pub mod amounts;
pub mod deployment;
pub mod down;
pub mod enrol;
pub mod facts;
pub mod log_frames;
pub mod manifest;
pub mod object;
pub mod stats;
pub mod status;
pub mod stream;
pub mod up;

pub use amounts::Amounts;
pub use deployment::{
    ContainerRollup, DeploymentSpec, DeploymentState, DeploymentStatus, FailingDevice, LadderCounts, Owner,
    ReadyPolicy, Source, TargetSpec,
};
pub use down::{Blob, Down, DownFrame, ReportAck, Statement, StatementBody};
pub use enrol::{EnrolAnswer, EnrolRequest, EnrolmentToken, SealingKeyStatement};
pub use facts::{Facts, HeldImage, LinkClass, Pressures, bounded_images};
pub use log_frames::{LogFrame, LogFrameError, LogFrames};
pub use manifest::{
    Action, ClaimPlugin, ContainerResource, ContainerSecurity, ContainerSpec, DnsPolicy, DnsSpec,
    DownwardValue, EnvFrom, EnvVar, Header, HostAlias, HostPathCheck, KeyToPath, Lifecycle, Manifest, Medium,
    MountSpec, Names, Namespaces, ObjectKind, ObjectRef, PodField, PodSecurity, PortProtocol, PortSpec,
    Probe, Probes, Profile, ProjectedSource, Propagation, PullPolicy, QosClass, RecursiveReadOnly,
    ResizeResource, ResourceField, Resources, RestartAction, RestartPolicy, RestartRule, SubPath, Terminal,
    TerminationMessage, Tombstone, TombstoneReason, ValueFrom, VolumeSource, VolumeSpec, WorkloadSpec,
    is_baseline_capability,
};
pub use object::{Bytes, KeyWrap, ObjectData, SealedObject};
pub use stats::{
    ContainerStats, CpuStats, FsStats, InterfaceStats, IoStats, MAX_STATS_FOR_MS, MAX_STATS_INTERVAL_MS,
    MAX_STATS_PARTS, MemoryStats, NetworkStats, NodeStats, ProcessStats, Stats, StatsAsk, StatsReport,
    SwapStats, VolumeStats, WorkloadStats,
};
pub use status::{
    ContainerState, ContainerStatus, DeferredResize, DeviceEvent, EventLevel, LinuxUser, Phase, Reason,
    ResizeFailure, Resizing, Rung, WorkloadStatus,
};
pub use stream::{
    LogPosition, LogQuery, LogSource, Operator, Stdio, StreamAnswer, StreamOpening, StreamOrder,
    StreamRefusal, StreamRequest, Ticket,
};
pub use up::{
    AckStage, EventReport, HeldSet, Hello, MAX_REPORT_EVENTS, MAX_REPORT_SEQ, MAX_WANTED_KEYS, SetAck,
    StatusReport, Up, UpFrame,
};

/// The version that every document of this module states in its `v`.
pub const VERSION: u16 = 1;
