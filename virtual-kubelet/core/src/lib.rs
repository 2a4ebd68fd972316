//! Node and pod decisions.
