//! The split of memory in a trial of the kind `memory`: two looks at the processes of the side under
//! test from outside, before it holds anything and half-way through the window, and their difference.

use std::collections::HashSet;

use crate::format::{Memory, Reason, Reasons, field};
use crate::side::cgroup::{CgroupMemory, Version};
use crate::side::split::{Look, Moment, ObjectSizes, Ports, between};

pub(super) struct Splitter {
    sizes: ObjectSizes,
    /// Stacks of the threads that the side's engine starts.
    stack_bytes: u64,
    /// What was in use before there was a connection.
    ports: Ports,
    ready: Moment,
    plateau: Moment,
    trouble: Option<Reason>,
}

impl Splitter {
    pub(super) fn new(stack_bytes: u64) -> Self {
        let (ready, plateau) = (Moment::default(), Moment::default());
        let (sizes, ports) = (ObjectSizes::read(), Ports::default());
        Splitter { sizes, stack_bytes, ports, ready, plateau, trouble: None }
    }

    /// `held_bytes` is the allocators' own count, here and below, where it is known by then.
    pub(super) fn at_ready(
        &mut self,
        pids: impl Iterator<Item = u32>,
        cgroup: Option<CgroupMemory>,
        held_bytes: Option<u64>,
    ) {
        let look = self.look(pids, &mut HashSet::new());
        self.ready = Moment { look, cgroup, held_bytes };
        self.ports = Ports::read();
    }

    pub(super) fn at_plateau(
        &mut self,
        pids: impl Iterator<Item = u32>,
        cgroup: Option<CgroupMemory>,
        held_bytes: Option<u64>,
    ) {
        let mut inodes = HashSet::new();
        let mut look = self.look(pids, &mut inodes);
        if let Some(look) = &mut look {
            look.port_buckets = self.ports.added(&inodes);
        }
        self.plateau = Moment { look, cgroup, held_bytes };
    }

    /// Drops what was seen half-way through the window of a server: it was too late.
    pub(super) fn forget_plateau(&mut self) {
        self.plateau = Moment::default();
    }

    /// The allocators' own counts, of processes that say them only when they end.
    pub(super) fn held(&mut self, ready: Option<u64>, plateau: Option<u64>) {
        (self.ready.held_bytes, self.plateau.held_bytes) = (ready, plateau);
    }

    fn look(&mut self, pids: impl Iterator<Item = u32>, inodes: &mut HashSet<u64>) -> Option<Look> {
        let mut sum = Look::default();
        for pid in pids {
            if let Err(why) = sum.add(pid, self.stack_bytes, inodes) {
                self.trouble.get_or_insert(why);
                return None;
            }
        }
        Some(sum)
    }

    /// Writes the split, and the name of each part that is missing: `prefix` is where the memory
    /// stands in the record. `uncounted` says why an allocator's count may be unknown.
    pub(super) fn note(
        self,
        memory: &mut Memory,
        (unavailable, prefix): (&mut Reasons, &str),
        version: Option<Version>,
        uncounted: &str,
    ) {
        let no_kernel = unavailable.get(&format!("{prefix}.kernel_bytes")).cloned();
        let of_split = [
            field!(Memory.heap_bytes),
            field!(Memory.stack_bytes),
            field!(Memory.unattributed_bytes),
        ];
        for field in of_split {
            unavailable.remove(&format!("{prefix}.{field}"));
        }
        let mut missing = |field: &str, why: &str| {
            unavailable.insert(format!("{prefix}.{field}"), why.into());
        };
        let Some(split) = between(&self.ready, &self.plateau, version, &self.sizes) else {
            let why = self.trouble.unwrap_or_else(|| {
                "the trial ended before the driver looked, half-way through its window".into()
            });
            missing(field!(Memory.split), &why);
            of_split.iter().for_each(|field| missing(field, &why));
            return;
        };
        if split.heap_bytes.is_none() {
            for field in [
                field!(Memory.heap_bytes),
                field!(Memory.split?.heap_bytes),
                field!(Memory.split?.heap_slack_bytes),
            ] {
                missing(field, uncounted);
            }
        }
        if split.total_bytes.is_none() {
            let why = no_kernel.unwrap_or("the cgroup counts no TCP buffers".into());
            let why = format!("needs a memory cgroup: {why}");
            for field in [
                field!(Memory.unattributed_bytes),
                field!(Memory.split?.unattributed_bytes),
                field!(Memory.split?.total_bytes),
            ] {
                missing(field, &why);
            }
            if split.tcp_buffer_bytes.is_none() {
                missing(field!(Memory.split?.tcp_buffer_bytes), &why);
            }
            if split.page_cache_bytes.is_none() {
                missing(field!(Memory.split?.page_cache_bytes), &why);
            }
        }
        memory.heap_bytes = self.plateau.held_bytes;
        memory.stack_bytes = self.plateau.look.map(|l| l.stack_bytes);
        memory.unattributed_bytes = split.unattributed_bytes.map(|b| b.max(0) as u64);
        memory.split = Some(split);
    }
}
