//! (placeholder)
pub mod counters {
    //! (placeholder)
}
