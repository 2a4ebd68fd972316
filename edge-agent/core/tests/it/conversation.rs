//! What the hub may and may not say.
