//! The three dialects of the metadata service, on a clock that a test moves.
