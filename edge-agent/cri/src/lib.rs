//! CRI client.
