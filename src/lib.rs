//! duel: the same HTTP requests through threads and through tasks, and what each cost.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "duel measures through Linux interfaces (/proc, cgroups, memfd) and runs on Linux only"
);

pub mod cli;
pub mod cmd;
pub mod codec;
pub mod config;
pub mod driver;
pub mod engine;
pub mod plan;
pub mod protocol;
pub mod record;
pub mod report;
pub mod results;
pub mod sys;
pub mod target;
pub mod units;
