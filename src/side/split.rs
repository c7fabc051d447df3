//! Where the bytes of a process are: one look, class by class, each class by a witness of its own.
//!
//! | part | how it is measured |
//! |---|---|
//! | thread stacks, signal stacks | resident pages of their mappings (`/proc/PID/smaps`) |
//! | heap | the allocator's own count ([`crate::sys::malloc_held_bytes`]); slack = resident − count |
//! | program | other anonymous pages: written data of files that are mapped, the main stack |
//! | page tables | `VmPTE`; under cgroup v2 the cgroup's own count |
//! | kernel stacks | threads × [`KERNEL_STACK_BYTES`]; under cgroup v2 the cgroup's own count |
//! | tasks, sockets, other objects | counts × sizes of the kernel's slab objects ([`ObjectSizes`]) |
//! | io_uring | pages of its queues, and requests in its list (`/proc/PID/fdinfo`) × their sizes |
//! | TCP buffers, total | the memory cgroup ([`crate::side::cgroup`]) |
//!
//! The driver takes the look from outside, so that it costs the worker no memory and no processor
//! time of its own; the allocator's count alone is the worker's to give.
//!
//! **Stacks are known by their shape.** glibc maps a stack and Rust a signal stack as one private
//! anonymous mapping right above an inaccessible page, the guard. No other mapping of a worker looks
//! so: an arena of glibc has its inaccessible part above it, and begins at a multiple of 64 MiB where
//! the next arena's may end. A mapping that is larger than any stack
//! was merged by the kernel with one above it; its stack is then counted page by page
//! (`/proc/PID/pagemap`).
//!
//! **smaps is read as a stream**, one line at a time: the `procfs` crate makes a table of every
//! figure of every mapping, some 100 MB with the 40,000 mappings of 10,000 threads.

mod sizes;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::cgroup::{CgroupMemory, Version};
use super::usage::{KERNEL_STACK_BYTES, ProcessUse};
use crate::format::{MemorySplit, Reason, SplitSource};
use sizes::ARMED_UNCHARGED_BYTES;
pub use sizes::ObjectSizes;

/// Stack of a thread that names no size: `std::thread`'s own.
const DEFAULT_STACK_BYTES: u64 = 2 << 20;

/// glibc's arenas begin at multiples of this (`HEAP_MAX_SIZE` in its malloc/arena.c on 64 bits).
const ARENA_ALIGN: u64 = 64 << 20;

/// Bytes that this process holds of its allocator, with what caches of threads hold for it: it walks its
/// free lists for the answer. `None` under one that keeps no count; a `foreign` one in the C library's
/// place is not asked, since the C library would answer for itself.
pub fn held_bytes(foreign: bool) -> Option<u64> {
    if foreign { None } else { crate::sys::malloc_held_bytes() }
}

/// [`held_bytes`] at `Ready` and half-way through the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapUse {
    pub ready: Option<u64>,
    /// Also `None` when the trial ended before.
    pub plateau: Option<u64>,
}

/// What one or several processes hold at one moment; counts and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    pub stack_bytes: u64,
    pub signal_stack_bytes: u64,
    /// Resident pages of other private anonymous mappings.
    pub heap_resident_bytes: u64,
    /// Anonymous pages of everything else.
    pub program_bytes: u64,
    pub page_table_bytes: u64,
    pub threads: u64,
    /// Sockets, each once however many descriptors name it.
    pub sockets: u64,
    pub mappings: u64,
    /// Mappings with anonymous pages: each has an index of its own.
    pub anonymous_mappings: u64,
    /// Room in the tables of descriptors.
    pub fd_slots: u64,
    /// Descriptors that an epoll set watches.
    pub watched: u64,
    /// Records of a local port, or of a port at an address, that exist for these sockets alone.
    pub port_buckets: u64,
    /// Pages of the queues of rings.
    pub ring_bytes: u64,
    /// Requests that wait in rings: receives, one for each armed connection.
    pub armed: u64,
}

impl Look {
    /// Adds a ring by what the kernel says of it.
    fn add_ring(&mut self, lines: impl Iterator<Item = String>) {
        let page = rustix::param::page_size() as u64;
        for line in lines {
            // An entry of 64 bytes to submit, or one of 16 that says what was completed.
            for (mask, bytes) in [("SqMask:", 64), ("CqMask:", 16)] {
                let hex = line.strip_prefix(mask).and_then(|n| n.trim().strip_prefix("0x"));
                if let Some(most) = hex.and_then(|n| u64::from_str_radix(n, 16).ok()) {
                    self.ring_bytes += ((most + 1) * bytes).next_multiple_of(page);
                }
            }
            self.armed += u64::from(line.trim_start().starts_with("op="));
        }
    }

    /// Adds a process, whose threads have stacks of `stack_size_bytes` or the default size, and its
    /// sockets' inodes to `inodes`.
    ///
    /// # Errors
    /// A file of `/proc/PID` cannot be read: the process is gone or another user's.
    pub fn add(
        &mut self,
        pid: u32,
        stack_size_bytes: u64,
        inodes: &mut HashSet<u64>,
    ) -> Result<(), Reason> {
        let used = ProcessUse::of(pid)?;
        self.page_table_bytes += used.page_table_bytes;
        self.threads += used.threads;
        self.fd_slots += fd_slots(pid)?;
        count_descriptors(pid, self, inodes)?;
        let path = format!("/proc/{pid}/smaps");
        let failed = |e: std::io::Error| Reason::from(format!("cannot read {path}: {e}"));
        let file = BufReader::with_capacity(64 << 10, File::open(&path).map_err(failed)?);
        let sizes = [stack_size_bytes, DEFAULT_STACK_BYTES];
        walk(file, &sizes, self, |start, end| resident(pid, start, end)).map_err(failed)
    }
}

#[derive(Debug, Default)]
struct Mapping {
    start: u64,
    end: u64,
    private_writable: bool,
    inaccessible: bool,
    /// Neither a file nor one of the kernel's names but `[heap]`.
    unnamed: bool,
    rss_bytes: u64,
    anonymous_bytes: u64,
}

/// Reads smaps and sorts every mapping; `resident` counts pages of a range.
fn walk(
    mut smaps: impl BufRead,
    stack_sizes: &[u64],
    look: &mut Look,
    resident: impl Fn(u64, u64) -> Option<u64>,
) -> std::io::Result<()> {
    let signal_stack = crate::sys::signal_stack_bytes();
    let mut line = String::new();
    let mut guard_end = 0;
    let mut current: Option<Mapping> = None;
    loop {
        line.clear();
        let ended = smaps.read_line(&mut line)? == 0;
        let next = Mapping::parse(&line);
        if (ended || next.is_some())
            && let Some(mapping) = current.take()
        {
            mapping.sort(guard_end, signal_stack, stack_sizes, look, &resident);
            let guard = mapping.inaccessible && mapping.unnamed;
            guard_end = if guard { mapping.end } else { 0 };
        }
        if ended {
            return Ok(());
        }
        match (next, &mut current) {
            (Some(next), _) => current = Some(next),
            (None, Some(mapping)) => mapping.note(&line),
            (None, None) => {}
        }
    }
}

impl Mapping {
    /// The line that opens a mapping: `7f…-7f… rw-p 00000000 00:00 0   [name]`.
    fn parse(line: &str) -> Option<Mapping> {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let (start, end) = (hex(start)?, hex(end)?);
        let flags = words.next()?.as_bytes();
        let name = words.nth(3);
        Some(Mapping {
            start,
            end,
            private_writable: flags.starts_with(b"rw") && flags.ends_with(b"p"),
            inaccessible: flags.starts_with(b"---"),
            // A name that the program itself gave (`[anon:…]`) makes it no other kind of mapping.
            unnamed: name.is_none_or(|n| n == "[heap]" || n.starts_with("[anon")),
            ..Mapping::default()
        })
    }

    /// A line of the mapping: `Rss:    4 kB`.
    fn note(&mut self, line: &str) {
        let Some((key, value)) = line.split_once(':') else { return };
        let figure = match key {
            "Rss" => &mut self.rss_bytes,
            "Anonymous" => &mut self.anonymous_bytes,
            _ => return,
        };
        let kib = value.trim_ascii().strip_suffix(" kB").and_then(|n| n.parse::<u64>().ok());
        *figure = kib.unwrap_or(0) << 10;
    }

    fn sort(
        &self,
        guard_end: u64,
        signal_stack: u64,
        stack_sizes: &[u64],
        look: &mut Look,
        resident: &impl Fn(u64, u64) -> Option<u64>,
    ) {
        look.mappings += 1;
        look.anonymous_mappings += u64::from(self.anonymous_bytes > 0);
        if !(self.unnamed && self.private_writable) {
            look.program_bytes += self.anonymous_bytes;
            return;
        }
        let size = self.end - self.start;
        // An arena may lie right above the inaccessible part of another.
        let arena = self.start.is_multiple_of(ARENA_ALIGN) && !stack_sizes.contains(&size);
        if self.start != guard_end || arena {
            look.heap_resident_bytes += self.rss_bytes;
            return;
        }
        if size == signal_stack {
            look.signal_stack_bytes += self.rss_bytes;
            return;
        }
        let known = || stack_sizes.iter().copied();
        // A merged mapping holds its stack at its lower end, above the guard.
        let own = match known().filter(|stack| *stack < size).max() {
            Some(stack) if known().all(|s| s != size) => resident(self.start, self.start + stack),
            _ => None,
        };
        let stack = own.unwrap_or(self.rss_bytes).min(self.rss_bytes);
        look.stack_bytes += stack;
        look.heap_resident_bytes += self.rss_bytes - stack;
    }
}

/// Resident bytes of a range, page by page: bit 63 of a page's entry is "present".
fn resident(pid: u32, start: u64, end: u64) -> Option<u64> {
    let page = rustix::param::page_size() as u64;
    let mut map = File::open(format!("/proc/{pid}/pagemap")).ok()?;
    map.seek(SeekFrom::Start(start / page * 8)).ok()?;
    let mut entries = vec![0; ((end - start) / page * 8) as usize];
    map.read_exact(&mut entries).ok()?;
    Some(entries.chunks_exact(8).filter(|entry| entry[7] & 0x80 != 0).count() as u64 * page)
}

fn fd_slots(pid: u32) -> Result<u64, Reason> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(|e| format!("cannot read {path}: {e}"))?;
    let slots = text.lines().find_map(|line| line.strip_prefix("FDSize:"));
    slots.and_then(|n| n.trim().parse().ok()).ok_or_else(|| format!("{path} has no FDSize").into())
}

/// Sockets, what epoll sets watch, and what waits in rings.
fn count_descriptors(pid: u32, look: &mut Look, inodes: &mut HashSet<u64>) -> Result<(), Reason> {
    let dir = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&dir).map_err(|e| format!("cannot read {dir}: {e}"))?;
    let mut sets = HashSet::new();
    for entry in entries.flatten() {
        // A descriptor may be closed between the listing and the reading.
        let Ok(link) = fs::read_link(entry.path()) else { continue };
        let link = link.to_string_lossy();
        if let Some(inode) = link.strip_prefix("socket:[") {
            let inode = inode.trim_end_matches(']').parse::<u64>();
            // Several descriptors, of several processes too, may name one socket.
            look.sockets += u64::from(inode.is_ok_and(|inode| inodes.insert(inode)));
        }
        let info = || {
            let path = format!("/proc/{pid}/fdinfo/{}", entry.file_name().to_string_lossy());
            let lines = File::open(path).map(|file| BufReader::new(file).lines());
            lines.into_iter().flatten().map_while(Result::ok)
        };
        match &*link {
            "anon_inode:[eventpoll]" => {
                let watched: Vec<String> = info().filter(|line| line.starts_with("tfd:")).collect();
                let many = watched.len() as u64;
                // A runtime holds its set through several descriptors (tokio: two), and each lists
                // all.
                if sets.insert(watched) {
                    look.watched += many;
                }
            }
            "anon_inode:[io_uring]" => look.add_ring(info()),
            _ => {}
        }
    }
    Ok(())
}

/// The local ports in use in this network namespace, closed connections that the kernel remembers
/// for a minute included: who connects from such a port again is charged nothing for its record.
#[derive(Debug, Default)]
pub struct Ports {
    addresses: HashSet<SocketAddr>,
    ports: HashSet<u16>,
}

impl Ports {
    pub fn read() -> Ports {
        Self::of(|_| true)
    }

    fn of(wanted: impl Fn(u64) -> bool) -> Ports {
        let entries = procfs::net::tcp().into_iter().chain(procfs::net::tcp6()).flatten();
        let mut ports = Ports::default();
        for entry in entries.filter(|entry| wanted(entry.inode)) {
            ports.addresses.insert(entry.local_address);
            ports.ports.insert(entry.local_address.port());
        }
        ports
    }

    /// Records that sockets with these inodes have and that did not exist before.
    pub fn added(&self, inodes: &HashSet<u64>) -> u64 {
        let now = Self::of(|inode| inodes.contains(&inode));
        let addresses = now.addresses.difference(&self.addresses).count();
        (addresses + now.ports.difference(&self.ports).count()) as u64
    }
}

/// Everything that was seen at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moment {
    /// The processes; `None` where one could not be looked at.
    pub look: Option<Look>,
    pub cgroup: Option<CgroupMemory>,
    pub held_bytes: Option<u64>,
}

/// What was added between two moments; `None` where a process could not be looked at.
pub fn between(
    then: &Moment,
    now: &Moment,
    version: Option<Version>,
    sizes: &ObjectSizes,
) -> Option<MemorySplit> {
    let (before, after) = (then.look?, now.look?);
    let grown = |part: fn(&Look) -> u64| added(part(&before), part(&after));
    let charged = |part: fn(&CgroupMemory) -> Option<u64>| {
        Some(added(part(then.cgroup.as_ref()?)?, part(now.cgroup.as_ref()?)?))
    };
    let times = |count: i64, bytes: u64| count * bytes as i64;
    let resident = grown(|l| l.heap_resident_bytes);
    let heap_bytes = then.held_bytes.zip(now.held_bytes).map(|(then, now)| added(then, now));
    let kernel_stacks = times(grown(|l| l.threads), KERNEL_STACK_BYTES);
    // The table of descriptors holds a pointer and, in two bit maps, two bits for each.
    let fd_tables = grown(|l| l.fd_slots) * 33 / 4;
    let armed = grown(|l| l.armed);
    let uncharged = times(armed, ARMED_UNCHARGED_BYTES);
    let mut split = MemorySplit {
        source: match (version, charged(|c| c.kernel_bytes)) {
            (Some(Version::V1), Some(_)) => SplitSource::CgroupV1,
            (Some(Version::V2), Some(_)) => SplitSource::CgroupV2,
            _ => SplitSource::Proc,
        },
        stack_bytes: grown(|l| l.stack_bytes),
        signal_stack_bytes: grown(|l| l.signal_stack_bytes),
        heap_bytes,
        heap_slack_bytes: heap_bytes.map(|held| resident - held),
        heap_resident_bytes: resident,
        program_bytes: grown(|l| l.program_bytes),
        kernel_stack_bytes: charged(|c| c.kernel_stack_bytes).unwrap_or(kernel_stacks),
        page_table_bytes: charged(|c| c.page_table_bytes)
            .unwrap_or_else(|| grown(|l| l.page_table_bytes)),
        task_bytes: times(grown(|l| l.threads), sizes.task_bytes),
        socket_object_bytes: times(grown(|l| l.sockets), sizes.socket_bytes)
            + times(grown(|l| l.port_buckets), sizes.port_bytes),
        other_kernel_bytes: times(grown(|l| l.mappings), sizes.mapping_bytes)
            + times(grown(|l| l.anonymous_mappings), sizes.anonymous_bytes)
            + times(grown(|l| l.watched), sizes.watched_bytes)
            + fd_tables,
        ring_bytes: grown(|l| l.ring_bytes) + times(armed, sizes.armed_bytes) + uncharged,
        tcp_buffer_bytes: charged(|c| c.socket_bytes),
        page_cache_bytes: charged(|c| Some(c.cache_bytes)),
        object_sizes_from_kernel: sizes.from_kernel,
        threads: grown(|l| l.threads),
        sockets: grown(|l| l.sockets),
        mappings: grown(|l| l.mappings),
        ..MemorySplit::default()
    };
    split.total_bytes = charged(|c| Some(c.rss_bytes))
        .zip(charged(|c| c.kernel_bytes))
        .zip(split.tcp_buffer_bytes)
        .map(|((rss, kernel), tcp)| rss + kernel + tcp + uncharged);
    split.unattributed_bytes = split.total_bytes.map(|total| total - split.parts_bytes());
    Some(split)
}

fn added(then: u64, now: u64) -> i64 {
    now as i64 - then as i64
}

#[cfg(test)]
mod tests;
