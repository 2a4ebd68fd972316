//! End to end: everything is in `tests/it`, one file per topic. A real Kubernetes, a real hub, real agents, real containers; nothing is played.
