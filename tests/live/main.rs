//! Whole runs against the embedded target: theory, gates, noise, fixed costs and bad input.
//!
//! `DUEL_FULL=1` runs the proofs at their full length (scripts/proofs.sh).

mod bad_input;
mod fixed_cost;
mod gates;
mod harness;
mod noise;
mod servers;
mod theory;
