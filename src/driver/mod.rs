//! The driver: one trial at a time, fresh processes for each, failure is a row.
//!
//! Thin on purpose: one thread, no runtime, memory that does not grow with the load.
//!
//! * `trial` runs one trial: limits, CPUs, targets, workers, and the six frames.
//! * [`gates`] judges whether its numbers are reliable.
//! * `peers` is what a trial asks of those that carry out other parts of the run.
//! * [`verify`] runs a plan once for its bytes' sake.
//! * [`timeline`] samples the workers from outside while a trial runs.
//! * [`metrics`] shows a running sweep to Prometheus, where asked to.
//! * [`pipe`], [`worker`] and [`targets`] are the children; [`target`] is a server of the user's.
//! * `others` says who else used the CPU.
//! * `own` is a server of the user's, started by its command and stopped with the trial.
//! * `files` removes what workers made for file steps.
//! * [`host`] records the machine and the binary, so that a result can be placed later.
//! * [`cpus`] divides the CPUs between the workers and the embedded target.

mod allocator;
pub mod cpus;
mod files;
pub mod gates;
pub mod host;
pub mod metrics;
mod others;
mod own;
pub(crate) mod peers;
pub mod pipe;
mod quiet;
mod split;
pub mod target;
mod targets;
pub mod timeline;
pub(crate) mod trial;
pub mod verify;
mod worker;
