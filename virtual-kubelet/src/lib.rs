//! Watches, patches, leases and events.
