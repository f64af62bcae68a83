//! What an instance learns of itself from its cloud's metadata service: who it is, a proof of that, and when it will be taken away.
