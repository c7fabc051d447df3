//! The split of memory in a trial of the kind `memory`: two looks at the workers from outside, at
//! `Ready` and half-way through the window, and their difference.

use std::collections::HashSet;

use super::worker::Worker;
use crate::format::TrialRecord;
use crate::plan::Cell;
use crate::protocol::Outcome;
use crate::side::cgroup::{CgroupMemory, Version};
use crate::side::split::{Look, Moment, ObjectSizes, Ports, between};

/// The two looks.
pub(super) struct Splitter {
    sizes: ObjectSizes,
    /// What was in use before the workers connected.
    ports: Ports,
    ready: Moment,
    plateau: Moment,
    /// Why a look could not be taken.
    trouble: Option<String>,
}

impl Splitter {
    pub(super) fn new() -> Self {
        let (ready, plateau) = (Moment::default(), Moment::default());
        let (sizes, ports) = (ObjectSizes::read(), Ports::default());
        Splitter { sizes, ports, ready, plateau, trouble: None }
    }

    pub(super) fn at_ready(
        &mut self,
        cell: &Cell,
        workers: &[Worker],
        cgroup: Option<CgroupMemory>,
    ) {
        let look = self.look(cell, workers, &mut HashSet::new());
        self.ready = Moment { look, cgroup, held_bytes: None };
        self.ports = Ports::read();
    }

    pub(super) fn at_plateau(
        &mut self,
        cell: &Cell,
        workers: &[Worker],
        cgroup: Option<CgroupMemory>,
    ) {
        let mut inodes = HashSet::new();
        let mut look = self.look(cell, workers, &mut inodes);
        if let Some(look) = &mut look {
            look.port_buckets = self.ports.added(&inodes);
        }
        self.plateau = Moment { look, cgroup, held_bytes: None };
    }

    fn look(&mut self, cell: &Cell, workers: &[Worker], inodes: &mut HashSet<u64>) -> Option<Look> {
        let mut sum = Look::default();
        for worker in workers {
            match Look::at(worker.id(), cell.stack_size_bytes.unwrap_or(0), inodes) {
                Ok(look) => sum += look,
                Err(why) => {
                    self.trouble.get_or_insert(why);
                    return None;
                }
            }
        }
        Some(sum)
    }

    /// Writes the split, and the name of each part that is missing.
    pub(super) fn note(
        mut self,
        record: &mut TrialRecord,
        outcomes: &[Outcome],
        version: Option<Version>,
    ) {
        let held = |at_plateau: bool| -> Option<u64> {
            let of = |o: &Outcome| {
                let heap = o.heap?;
                if at_plateau { heap.plateau?.held_bytes } else { heap.ready.held_bytes }
            };
            outcomes.iter().map(of).sum()
        };
        (self.ready.held_bytes, self.plateau.held_bytes) = (held(false), held(true));
        let unavailable = &mut record.unavailable;
        let mut missing = |field: &str, why: &str| {
            unavailable.insert(format!("memory.{field}"), why.into());
        };
        let Some(split) = between(&self.ready, &self.plateau, version, &self.sizes) else {
            let why = self.trouble.unwrap_or_else(|| {
                "the trial ended before the driver looked, half-way through its window".into()
            });
            for field in ["split", "heap_bytes", "stack_bytes", "unattributed_bytes"] {
                missing(field, &why);
            }
            return;
        };
        if split.heap_bytes.is_none() {
            for field in ["heap_bytes", "split.heap_bytes", "split.heap_slack_bytes"] {
                missing(field, "this allocator keeps no count of what it has handed out");
            }
        }
        if split.total_bytes.is_none() {
            let no_count = "memory.kernel_bytes";
            let why = self.missing_total(record.unavailable.get(no_count));
            let unavailable = &mut record.unavailable;
            for field in ["unattributed_bytes", "split.unattributed_bytes", "split.total_bytes"] {
                unavailable.insert(format!("memory.{field}"), why.clone());
            }
            if split.tcp_buffer_bytes.is_none() {
                unavailable.insert("memory.split.tcp_buffer_bytes".into(), why.clone());
            }
            if split.page_cache_bytes.is_none() {
                unavailable.insert("memory.split.page_cache_bytes".into(), why);
            }
        }
        record.memory.heap_bytes = self.plateau.held_bytes;
        record.memory.stack_bytes = self.plateau.look.map(|l| l.stack_bytes);
        record.memory.unattributed_bytes = split.unattributed_bytes.map(|b| b.max(0) as u64);
        record.memory.split = Some(split);
    }

    /// Why there is no total, after what is known of the kernel's memory.
    fn missing_total(&self, kernel: Option<&String>) -> String {
        let why = kernel.map_or("the cgroup counts no TCP buffers", String::as_str);
        format!("needs a memory cgroup: {why}")
    }
}
