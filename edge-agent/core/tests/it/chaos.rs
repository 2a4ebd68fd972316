//! Faults at every point, then peace.
