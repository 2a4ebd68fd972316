//! The Device machine by itself.
