//! `gpuloom-doubles`: the clouds' stand-ins as a program, for tests that start them beside terraform.

fn main() {}
