//! (placeholder)

pub mod parse;
