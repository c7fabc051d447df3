//! duel: the same HTTP requests through threads and through tasks, and what each cost.
//!
//! # Map of the code
//!
//! Data flows one way: `config → plan → driver ⇢ worker: engine → side ⇢ driver → results →
//! report`. The two dotted arrows are [`protocol`], six frames between two processes.
//!
//! | module | uses | what it knows | what it must not know |
//! |---|---|---|---|
//! | [`terminal`] | – | what is said and printed, and what becomes of it where nobody listens | what it means |
//! | [`units`] | – | durations, rates, sizes, as people write them | everything else |
//! | [`sys`] | `units` | the few system calls that have no safe form | everything else |
//! | [`cli`] | `config` `plan` `units` | arguments | what they do |
//! | [`plan`] | `units` | cells and their order, arrivals, requests, targets: pure, seeded | processes, clocks |
//! | [`mod@format`] | `plan` `units` | THE VOCABULARY: the record of a trial and its histograms | who fills or shows it |
//! | [`protocol`] | `format` `plan` `side` `units` | THE SEAM between driver and worker | either side |
//! | [`config`] | `codec` `plan` `stats` `terminal` `units` | TOML; a file becomes a [`plan::sweep::Sweep`] or one error | the machine |
//! | [`side`] | `format` `sys` `units` | what is measured of a process, client or server | what it is compared with |
//! | [`limits`] | `codec` `plan` `side` `sys` `units` | what this machine allows, and what a cell needs of it | processes |
//! | [`codec`] | `plan` `side` `sys` | HTTP/1.1 on a connection, at either end: `hyper` and `lean` | who schedules the lane, what a server does |
//! | [`work`] | `plan` | file and compute steps | which thread carries them out |
//! | [`engine`] | `codec` `format` `plan` `protocol` `side` `sys` `units` `work` | lanes under six engines | TOML, paths, statistics |
//! | [`server`] | `codec` `engine` `plan` `side` `sys` `work` | the embedded target and its virtual queue; servers under test, of which one runs on the rings of `engine` | who calls |
//! | [`driver`] | `codec` `format` `limits` `plan` `protocol` `server` `side` `sys` `units` `work` | processes, CPUs, gates; one trial at a time | what is inside a worker, and that there are shards |
//! | `fleet` | `driver` `format` `plan` `results` `sys` `units` | shards of a run: which they are, when they start, how far their clocks are apart | what happens inside a trial |
//! | [`stats`] | `format` `plan` `units` | ratios with intervals, percentiles, lines: from numbers alone | files, clocks, words of a report |
//! | [`results`] | `format` `limits` `plan` `stats` `sys` `units` | the run directory | how it is shown |
//! | [`report`] | `format` `limits` `plan` `results` `stats` `sys` `terminal` `units` | tables, files, pages, made from records | processes, measuring |
//! | [`cmd`] | `cli` `codec` `config` `driver` `engine` `fleet` `format` `limits` `plan` `protocol` `report` `results` `server` `side` `stats` `sys` `terminal` `units` `work` | commands: glue, exit codes | how anything is measured |
//!
//! A reader in a hurry: `driver/trial.rs` runs a trial, `engine/threads.rs` and `engine/tokio.rs`
//! are the two sides of the question, `engine/lane.rs` is what both share, and
//! [`mod@format`] says what comes out.
//!
//! # What holds everywhere
//!
//! * Nothing allocates on the recording path, and the recorder's memory depends on neither engine
//!   nor lanes.
//! * The intended start of a request of an open loop travels with it; nothing is corrected later.
//! * Failure is a row, never a missing row; a ledger that does not balance is never written.
//! * What could not be measured is `null` and named, never a zero.

// What is said must not panic where nobody listens; see `terminal`.
#![cfg_attr(not(test), deny(clippy::print_stderr, clippy::print_stdout))]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "duel measures through Linux interfaces (/proc, cgroups, memfd) and runs on Linux only"
);

#[macro_use]
pub mod terminal;

pub mod cli;
pub mod cmd;
pub mod codec;
pub mod config;
pub mod driver;
mod engine;
pub mod fleet;
pub mod format;
pub mod limits;
pub mod plan;
pub mod protocol;
pub mod report;
pub mod results;
pub mod server;
pub mod side;
pub mod stats;
pub mod sys;
pub mod units;
pub mod work;
