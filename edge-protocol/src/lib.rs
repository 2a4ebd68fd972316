//! The wire documents, digests, judge and signatures.
