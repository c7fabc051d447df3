//! Engines and servers under load: books, books against servers that misbehave, and what is measured.
//! One program for many files, which saves building and linking each.

mod common;
mod connections;
mod events;
mod faults;
mod limits_met;
mod pipeline;
mod real_servers;
mod rings;
mod sample;
mod servers;
mod steps;
mod target;
mod targets;
mod unix_socket;
