//! The CRI v1 messages and raw client stubs, generated from `proto/v1.proto`.

// Generated code: its style is prost's and tonic's, not ours.
#![allow(clippy::pedantic, clippy::all)]

tonic::include_proto!("runtime.v1");
