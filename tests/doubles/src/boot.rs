//! Booting: an instance is a folder, an address of its own and the processes its user data starts.
