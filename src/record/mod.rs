//! (placeholder)
pub mod cgroup;
pub mod usage;

pub mod counters {
    //! (placeholder)
}
