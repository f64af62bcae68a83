//! Compute Engine: instances, operations and failures, every request held against the discovery document.
