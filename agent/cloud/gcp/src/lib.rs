//! Google Compute Engine as a cloud: regional bulk inserts, membership by label, instances deleted by name.
