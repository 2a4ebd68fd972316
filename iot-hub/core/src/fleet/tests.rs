//! The Fleet machine by itself.
