//! The binary as its users drive it: flags, files, signals, shards, and what the documents show.
//! One program for many files, which saves building and linking each.

mod blocks;
mod browser;
mod capacity_cli;
mod classes;
mod cli;
mod common;
mod data_docs;
mod guard;
mod hopeless;
mod interrupt;
mod metrics;
mod output;
mod quota;
mod restricted;
mod run_dir;
mod sample;
mod scenarios;
mod search_run;
mod secrets;
mod served;
mod shards;
mod shown;
mod slurm;
mod verify;
mod width;
