//! The vocabulary of results: what a trial's record holds, how its histograms are written, and how
//! the parts of a trial add up. Knows of nothing but the plan's cell.
//!
//! * [`figures`]: every figure, once, with the [`rule`] by which it adds up over parts.
//! * [`record`](TrialRecord): the record, every histogram and every kind of error, once.
//! * [`add`]: workers → trial and shards → whole trial, by the same code.
//! * [`histogram`]: the layout of histograms and their text form.

pub mod add;
mod figures;
pub mod gates;
pub mod histogram;
mod parts;
mod record;
pub(crate) mod rule;
mod views;

pub use figures::*;
pub(crate) use parts::field;
pub use parts::*;
pub use record::*;
