//! What needs no load: configs, records, figures drawn from them, reports, and the rules of the code.
//! One program for many files, which saves building and linking each.

mod any_input;
mod axes;
mod capacity;
mod capacity_plan;
mod common;
mod compare;
mod config;
mod expect;
mod figures;
mod hdr_files;
mod kubernetes;
mod old_data;
mod precision;
mod protocol;
mod repeats;
mod report;
mod sample;
#[path = "sample/expect.rs"]
mod sample_expect;
mod schema;
mod search;
mod stats;
mod store;
mod sweep;
mod usl;
mod walls;
