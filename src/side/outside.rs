//! The processes of a side, seen from outside: what an embedded target costs, in the shape in which
//! the workers say it of themselves.

use serde_json::Value;

use super::cgroup::{Cgroup, CgroupMemory, Version};
use super::usage::{Edge, FROM_OUTSIDE, ProcessUse, Usage, reset_hwm_at};
use crate::format::{Memory, Reason, Reasons, SideUse, field};

/// Why nothing is known of what is held half-way through the window.
const NOT_SEEN: &str = "nobody looked half-way through the window: the trial, or the driver, was too \
                        short of time";

/// The processes of a side, and what was read of them so far.
pub(crate) struct Outside {
    processes: Vec<Process>,
    /// The memory cgroup that they are in, or why there is none.
    group: Result<GroupMemory, Reason>,
    /// The first reading that failed.
    trouble: Option<Reason>,
}

/// What the kernel itself spends on the processes.
struct GroupMemory {
    cgroup: Cgroup,
    baseline: CgroupMemory,
    plateau: Option<CgroupMemory>,
}

struct Process {
    pid: u32,
    baseline: ProcessUse,
    first: Option<Usage>,
    last: Option<Usage>,
    plateau: Option<ProcessUse>,
    /// The latest reading, with the most threads and descriptors of all.
    most: ProcessUse,
}

impl Outside {
    /// Reads the baseline of the processes, from which their memory counts, and moves them into
    /// the cgroup.
    pub(crate) fn new(
        pids: impl Iterator<Item = u32> + Clone,
        cgroup: Result<Cgroup, Reason>,
    ) -> Result<Outside, Reason> {
        let group = cgroup.and_then(|cgroup| {
            pids.clone().try_for_each(|pid| cgroup.add(pid))?;
            Ok(GroupMemory { baseline: cgroup.read()?, cgroup, plateau: None })
        });
        let process = |pid| {
            reset_hwm_at(&format!("/proc/{pid}"))?;
            let baseline = ProcessUse::of(pid)?;
            Ok(Process { pid, baseline, first: None, last: None, plateau: None, most: baseline })
        };
        let processes = pids.map(process).collect::<Result<_, Reason>>()?;
        Ok(Outside { processes, group, trouble: None })
    }

    /// Descriptors beyond those that were open before there was a connection; `None` where that is not
    /// known.
    pub(crate) fn added_fds(&self) -> Option<u64> {
        let added = |p: &Process| {
            let now = ProcessUse::of(p.pid).ok()?.fds?;
            Some(now.saturating_sub(p.baseline.fds?))
        };
        self.processes.iter().map(added).sum()
    }

    /// What the cgroup counted before there was a connection; `None` without one.
    pub(crate) fn group_at_first(&self) -> Option<CgroupMemory> {
        self.group.as_ref().ok().map(|group| group.baseline)
    }

    pub(crate) fn group_at_plateau(&self) -> Option<CgroupMemory> {
        self.group.as_ref().ok()?.plateau
    }

    pub(crate) fn group_version(&self) -> Option<Version> {
        self.group.as_ref().ok().map(|group| group.cgroup.version())
    }

    /// Whether an edge was read.
    pub(crate) fn has(&self, edge: Edge) -> bool {
        let read = |p: &Process| match edge {
            Edge::Start => p.first.is_some(),
            Edge::End => p.last.is_some(),
        };
        self.trouble.is_some() || self.processes.iter().all(read)
    }

    /// Reads what was used up to an edge of the window; `told` is what processes that can be asked
    /// read of themselves, threads that have ended included.
    pub(crate) fn read(&mut self, edge: Edge, told: impl IntoIterator<Item = Usage>) {
        let mut told = told.into_iter();
        self.each(|process| {
            // Next to the edge as in the workers, the clocks before or behind all else.
            if edge == Edge::Start {
                process.see()?;
            }
            let usage = told.next().map_or_else(|| Usage::of(process.pid, edge), Ok)?;
            match edge {
                Edge::Start => process.first = Some(usage),
                Edge::End => {
                    process.last = Some(usage);
                    process.see()?;
                }
            }
            Ok(())
        });
    }

    /// Reads what is held half-way through the window.
    pub(crate) fn read_plateau(&mut self) {
        if let Ok(group) = &mut self.group {
            group.plateau = group.cgroup.read().ok();
        }
        self.each(|process| {
            process.plateau = Some(process.see()?);
            Ok(())
        });
    }

    /// Drops what [`Self::read_plateau`] read: it was too late.
    pub(crate) fn forget_plateau(&mut self) {
        if let Ok(group) = &mut self.group {
            group.plateau = None;
        }
        self.processes.iter_mut().for_each(|process| process.plateau = None);
    }

    fn each(&mut self, mut read: impl FnMut(&mut Process) -> Result<(), Reason>) {
        let trouble = self.processes.iter_mut().find_map(|process| read(process).err());
        self.trouble = self.trouble.take().or(trouble);
    }

    /// What the side used between the edges, and which figures are missing and why.
    ///
    /// # Errors
    /// Why there are none: a process could not be read, or the window ended before it began.
    pub(crate) fn finish(self) -> Result<(SideUse, Reasons), Reason> {
        if let Some(trouble) = self.trouble {
            return Err(trouble);
        }
        let mut unavailable = Reasons::new();
        let mut sum: Option<SideUse> = None;
        for process in &self.processes {
            let (used, missing) = process.used().ok_or("the window's edges were not read")?;
            unavailable.extend(missing);
            match &mut sum {
                Some(sum) => *sum += &used,
                None => sum = Some(used),
            }
        }
        let mut sum = sum.ok_or("no process")?;
        let mut missing = |fields: &[&str], why: &Reason| {
            unavailable.extend(fields.iter().map(|field| (field.to_string(), why.clone())));
        };
        let noted = self.group.as_ref().map_err(Clone::clone);
        if let Err(why) = noted.and_then(|group| group.note(&mut sum.memory)) {
            let of_group =
                [field!(SideUse.memory.kernel_bytes), field!(SideUse.memory.socket_bytes)];
            missing(&of_group, &why);
        }
        if self.processes.iter().any(|process| process.plateau.is_none()) {
            let of_plateau = [
                field!(SideUse.memory.plateau_user_bytes),
                field!(SideUse.memory.added_bytes),
                field!(SideUse.memory.file_bytes),
                field!(SideUse.memory.page_table_bytes),
                field!(SideUse.memory.kernel_stack_bytes),
                field!(SideUse.memory.added_kernel_bytes),
            ];
            missing(&of_plateau, &NOT_SEEN.into());
        }
        if sum.requests.is_none() {
            missing(&[field!(SideUse.requests)], &FROM_OUTSIDE.into());
        }
        let value = serde_json::to_value(&sum).map_err(|e| e.to_string())?;
        for (part, fields) in value.as_object().into_iter().flatten() {
            let null = fields.as_object().into_iter().flatten().filter(|(_, v)| v.is_null());
            for (field, _) in
                null.filter(|(field, _): &(&String, &Value)| *field != field!(Memory.split))
            {
                unavailable.entry(format!("{part}.{field}")).or_insert_with(|| FROM_OUTSIDE.into());
            }
        }
        Ok((sum, unavailable))
    }
}

impl GroupMemory {
    /// Notes what came since the baseline.
    fn note(&self, memory: &mut Memory) -> Result<(), Reason> {
        let plateau = self.plateau.ok_or(NOT_SEEN)?;
        let added = plateau.kernel_bytes.zip(self.baseline.kernel_bytes);
        memory.kernel_bytes = added.map(|(now, then)| now.saturating_sub(then));
        memory.socket_bytes = plateau.socket_bytes;
        Ok(())
    }
}

impl Process {
    fn see(&mut self) -> Result<ProcessUse, Reason> {
        let now = ProcessUse::of(self.pid)?;
        self.most = ProcessUse {
            threads: self.most.threads.max(now.threads),
            fds: self.most.fds.max(now.fds),
            ..now
        };
        Ok(now)
    }

    fn used(&self) -> Option<(SideUse, Reasons)> {
        let spent = self.last.as_ref()?.since(self.first.as_ref()?);
        let added = self.plateau.map(|held| held.added_since(&self.baseline));
        let used = SideUse {
            processes: 1,
            cpus: 0,
            cpu: spent.cpu,
            switches: spent.switches,
            events: spent.events,
            memory: Memory {
                baseline_rss_bytes: self.baseline.rss_bytes,
                peak_rss_bytes: self.most.peak_rss_bytes,
                plateau_user_bytes: self.plateau.map(|held| held.rss_bytes),
                added_bytes: added.map(|[anonymous, ..]| anonymous),
                file_bytes: added.map(|[_, files, _]| files),
                added_kernel_bytes: added.map(|[.., kernel]| kernel),
                page_table_bytes: self.plateau.map(|held| held.page_table_bytes),
                kernel_stack_bytes: self.plateau.map(|held| held.kernel_stack_bytes()),
                ..Memory::default()
            },
            threads_peak: self.most.threads,
            fds_peak: self.most.fds.unwrap_or(0),
            measured_ns: spent.elapsed_ns,
            requests: spent.answered,
            runtime: spent.runtime,
            ring: spent.ring,
        };
        Some((used, spent.unavailable))
    }
}
