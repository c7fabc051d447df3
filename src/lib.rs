//! duel: the same HTTP requests through threads and through tasks, and what each cost.
//!
//! # Map of the code
//!
//! Data flows one way: `config → plan → driver ⇢ worker: engine → side ⇢ driver → results →
//! report`. The two dotted arrows are [`protocol`], six frames between two processes.
//!
//! | module | what it knows | what it must not know |
//! |---|---|---|
//! | [`cli`], [`cmd`] | arguments, printing, exit codes | how anything is measured |
//! | [`config`] | TOML; a file becomes a [`plan::sweep::Sweep`] or one error | the machine |
//! | [`plan`] | cells and their order, arrivals, the request mix: pure, seeded | processes, clocks |
//! | [`protocol`] | THE SEAM between driver and worker | either side |
//! | [`limits`] | what this machine allows, and what a cell needs of it | processes |
//! | [`driver`] | processes, CPUs, gates; one trial at a time | what is inside a worker |
//! | `fleet` | shards of a run: who they are, when they start, how far their clocks are apart | what happens inside a trial |
//! | [`engine`] | lanes under five engines | TOML, paths, statistics |
//! | [`codec`] | HTTP/1.1 on a lane's connection: `hyper` and `lean` | who schedules the lane |
//! | [`work`] | file and compute steps | which thread carries them out |
//! | [`side`] | histograms, counters, CPU and memory of a process, client or server | what they are compared with |
//! | [`target`] | the embedded server and its virtual queue | who calls |
//! | [`format`] | the TrialRecord and its histograms: what every module of results speaks | who fills or shows it |
//! | [`results`] | the run directory | how they are shown |
//! | [`stats`] | ratios with intervals, percentiles, lines: from numbers alone | files, clocks, words of a report |
//! | [`report`] | tables, files, pages, made from records | processes, measuring |
//! | [`sys`] | the few system calls that have no safe form | everything else |
//!
//! A reader in a hurry: [`driver::trial`] runs a trial, `engine/threads.rs` and `engine/tokio.rs`
//! are the two sides of the question, `engine/lane.rs` is what both share, and
//! [`format`] says what comes out.
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
pub mod engine;
mod fleet;
pub mod format;
pub mod limits;
pub mod plan;
pub mod protocol;
pub mod report;
pub mod results;
pub mod side;
pub mod stats;
pub mod sys;
pub mod target;
pub mod units;
pub mod work;
