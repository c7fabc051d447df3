//! Commands: glue, printing and exit codes; what they do lives in the other modules.

pub mod worker;
