//! Pod to manifest.
