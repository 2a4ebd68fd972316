//! Pods wanted against deployments held.
