//! The hub's store.
