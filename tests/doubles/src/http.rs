//! A server on a free port of 127.0.0.1 that keeps a log of what it was asked.
