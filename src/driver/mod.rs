//! What runs a sweep on this machine: what the machine is, what it allows, who runs where.
//!
//! * [`host`] records the machine and the binary, so that a result can be placed later.
//! * [`limits`] names every limit that a cell would hit, before it hits it.
//! * [`cpus`] divides the CPUs between the workers and the embedded target.

pub mod cpus;
pub mod host;
pub mod limits;
