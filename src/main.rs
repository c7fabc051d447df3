//! The `duel` command; see the library for the map of the code.

fn main() {}
