//! A memory cgroup per trial: what the kernel itself spends on the workers.
//!
//! A thread's kernel stack, its `task_struct` and its socket appear in no figure of the process;
//! only a memory cgroup counts them. One is made below the cgroup that this process runs in, so
//! that whatever limit stands on that one still holds.
//!
//! | figure | cgroup v1 | cgroup v2 |
//! |---|---|---|
//! | resident, file cache | `memory.stat` `total_rss`, `total_cache` | `memory.stat` `anon`, `file` |
//! | kernel memory | `memory.kmem.usage_in_bytes` | `memory.stat` `kernel` |
//! | its peak | `memory.kmem.max_usage_in_bytes` | none |
//! | TCP buffers | `memory.kmem.tcp.usage_in_bytes` | `memory.stat` `sock` |
//! | kernel stacks, page tables, slab | none | `memory.stat` |
//!
//! Each counter is exact to a few pages per CPU, since the kernel charges in batches.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use procfs::ProcessCGroups;
use procfs::process::{MountInfos, Process};
use serde::{Deserialize, Serialize};

use crate::format::Reason;

/// The leaf that the driver moves into, since under v2 only a cgroup without processes of its own
/// may hand the memory controller down.
const DRIVER_LEAF: &str = "duel-driver";

/// How long a cgroup may stay busy after its last process was reaped.
const REMOVE_FOR: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// A hierarchy of its own for each controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// Where a controller's hierarchy shows this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CgroupPlace {
    pub version: Version,
    pub mount: PathBuf,
    /// Directory of the cgroup that this process is in: `mount` or below it.
    pub own: PathBuf,
}

impl CgroupPlace {
    /// Finds the controller (`memory`, `pids`) for this process.
    ///
    /// # Errors
    /// Says why not, in half a sentence.
    pub(crate) fn of(controller: &str) -> Result<CgroupPlace, Reason> {
        Self::of_process(controller, std::process::id())
    }

    /// The same for another process, as far as it can be seen from here.
    pub(crate) fn of_process(controller: &str, pid: u32) -> Result<CgroupPlace, Reason> {
        let failed = |e: procfs::ProcError| format!("cannot read /proc/{pid}: {e}");
        let me = Process::myself().map_err(failed)?;
        let process = Process::new(pid as i32).map_err(failed)?;
        Self::find(
            controller,
            &me.mountinfo().map_err(failed)?,
            &process.cgroups().map_err(failed)?,
            |mount| fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default(),
        )
    }

    fn find(
        controller: &str,
        mounts: &MountInfos,
        cgroups: &ProcessCGroups,
        controllers_of: impl Fn(&Path) -> String,
    ) -> Result<CgroupPlace, Reason> {
        for mount in mounts.iter() {
            let version = match mount.fs_type.as_str() {
                "cgroup" if mount.super_options.contains_key(controller) => Version::V1,
                "cgroup2" if has_word(&controllers_of(&mount.mount_point), controller) => {
                    Version::V2
                }
                _ => continue,
            };
            let own = cgroups.0.iter().find(|c| match version {
                Version::V1 => c.controllers.iter().any(|name| name == controller),
                Version::V2 => c.hierarchy == 0,
            });
            // In a container the mount may begin below the hierarchy's root; a path outside of it
            // (`/../…`) cannot be reached from here.
            let below = own.and_then(|c| Path::new(&c.pathname).strip_prefix(&mount.root).ok());
            if let Some(below) = below.filter(|p| !p.starts_with("..")) {
                // Joining an empty path would add a slash.
                let own = mount.mount_point.components().chain(below.components()).collect();
                return Ok(CgroupPlace { version, mount: mount.mount_point.clone(), own });
            }
        }
        Err(format!("no mounted cgroup hierarchy offers the {controller} controller here").into())
    }

    /// The process's own cgroup and every one above it that can be seen: all of them limit it.
    pub(crate) fn path_to_root(&self) -> impl Iterator<Item = &Path> {
        self.own.ancestors().take_while(|dir| dir.starts_with(&self.mount))
    }
}

/// What a memory cgroup counts, in bytes; `None` where its version has no such counter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupMemory {
    pub rss_bytes: u64,
    /// Page cache charged to the processes.
    pub cache_bytes: u64,
    /// All kernel memory: stacks, page tables, slab, per-CPU data.
    pub kernel_bytes: Option<u64>,
    /// Most kernel memory since the cgroup was made.
    pub kernel_peak_bytes: Option<u64>,
    /// TCP buffers, which are no part of `kernel_bytes`.
    pub socket_bytes: Option<u64>,
    pub kernel_stack_bytes: Option<u64>,
    pub page_table_bytes: Option<u64>,
    /// Slab objects: sockets, dentries, task structures.
    pub slab_bytes: Option<u64>,
}

/// A memory cgroup of our own; removed when dropped.
#[derive(Debug)]
pub struct Cgroup {
    dir: PathBuf,
    version: Version,
    has_tcp_counter: bool,
}

impl Cgroup {
    /// Makes a memory cgroup below that of this process: `duel-PID-NAME`.
    ///
    /// Under v2 the first call may move this process into a leaf, so it must come before any child
    /// is started. Cgroups that a killed driver left here are removed.
    ///
    /// # Errors
    /// Says why none can be made, with the way out where there is one.
    pub fn create(name: &str) -> Result<Cgroup, Reason> {
        if name.is_empty()
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        {
            let rule = "use letters, digits, `-`, `_` and `.`";
            return Err(format!("`{name}` cannot name a cgroup: {rule}").into());
        }
        let place = CgroupPlace::of("memory")?;
        let parent = match place.version {
            Version::V1 => v1_parent(&place.own)?,
            Version::V2 => v2_parent(&place.own)?,
        };
        remove_stale(&parent);
        let dir = parent.join(format!("duel-{}-{name}", std::process::id()));
        fs::create_dir(&dir).map_err(|e| cannot("make", &dir, &e))?;
        // The TCP counter of v1 sleeps until a limit is written; -1 is "no limit".
        let has_tcp_counter = place.version == Version::V2
            || fs::write(dir.join("memory.kmem.tcp.limit_in_bytes"), "-1").is_ok();
        let cgroup = Cgroup { dir, version: place.version, has_tcp_counter };
        // One reading now, so that a hierarchy that cannot be read is known before the trial.
        cgroup.read()?;
        Ok(cgroup)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// Moves a process in, with all its threads; what it holds already stays charged elsewhere.
    pub fn add(&self, pid: u32) -> Result<(), Reason> {
        let procs = self.procs_file();
        fs::write(&procs, pid.to_string()).map_err(|e| cannot("write to", &procs, &e))
    }

    /// The file through which a process moves itself in; see [`join`].
    pub(crate) fn procs_file(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }

    pub fn read(&self) -> Result<CgroupMemory, Reason> {
        let path = self.dir.join("memory.stat");
        let text = fs::read_to_string(&path).map_err(|e| cannot("read", &path, &e))?;
        let stat: BTreeMap<&str, u64> = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(key, value)| Some((key, value.parse().ok()?)))
            .collect();
        let counter = |key: &str| stat.get(key).copied();
        let of_file = |name: &str| read_number(self.dir.join(name)).ok();
        let must = |key: &str| counter(key).ok_or_else(|| format!("{path:?} has no `{key}`"));
        Ok(match self.version {
            Version::V1 => CgroupMemory {
                rss_bytes: must("total_rss")?,
                cache_bytes: must("total_cache")?,
                kernel_bytes: of_file("memory.kmem.usage_in_bytes"),
                kernel_peak_bytes: of_file("memory.kmem.max_usage_in_bytes"),
                socket_bytes: of_file("memory.kmem.tcp.usage_in_bytes")
                    .filter(|_| self.has_tcp_counter),
                ..CgroupMemory::default()
            },
            Version::V2 => CgroupMemory {
                rss_bytes: must("anon")?,
                cache_bytes: must("file")?,
                kernel_bytes: counter("kernel"),
                kernel_peak_bytes: None,
                socket_bytes: counter("sock"),
                kernel_stack_bytes: counter("kernel_stack"),
                page_table_bytes: counter("pagetables"),
                slab_bytes: counter("slab"),
            },
        })
    }

    /// Removes the cgroup, waiting for processes that are still exiting.
    ///
    /// # Errors
    /// It is still busy after two seconds.
    pub fn remove(self) -> Result<(), Reason> {
        let outcome = remove_dir(&self.dir, REMOVE_FOR);
        std::mem::forget(self);
        outcome
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Nobody can be told here; the next driver removes what is left.
        let _ = remove_dir(&self.dir, REMOVE_FOR);
    }
}

/// Moves the calling process into the cgroup whose [`Cgroup::procs_file`] this is.
pub fn join(procs_file: &Path) -> std::io::Result<()> {
    fs::write(procs_file, "0")
}

/// Reads a file that holds one number; `max` reads as `u64::MAX`.
pub(crate) fn read_number(path: impl AsRef<Path>) -> Result<u64, Reason> {
    let path = path.as_ref();
    let text = fs::read_to_string(path).map_err(|e| cannot("read", path, &e))?;
    match text.trim() {
        "max" => Ok(u64::MAX),
        number => {
            number.parse().map_err(|_| format!("{path:?} holds no number: {number:?}").into())
        }
    }
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Reason {
    format!("cannot {what} {}: {error}", path.display()).into()
}

fn has_word(text: &str, word: &str) -> bool {
    text.split_ascii_whitespace().any(|w| w == word)
}

fn v1_parent(own: &Path) -> Result<PathBuf, Reason> {
    // Without it a child escapes the limits of its parent, which nobody asked for.
    match fs::read_to_string(own.join("memory.use_hierarchy")) {
        Ok(text) if text.trim() == "0" => Err(format!(
            "{} is not hierarchical: a cgroup below it would escape its limits",
            own.display()
        )
        .into()),
        _ => Ok(own.to_path_buf()),
    }
}

/// Finds or makes the v2 cgroup whose children have the memory controller.
fn v2_parent(own: &Path) -> Result<PathBuf, Reason> {
    let hands_down = |dir: &Path| {
        fs::read_to_string(dir.join("cgroup.subtree_control")).is_ok_and(|t| has_word(&t, "memory"))
    };
    if let (Some(leaf), Some(parent)) = (own.file_name(), own.parent())
        && leaf == DRIVER_LEAF
        && hands_down(parent)
    {
        return Ok(parent.to_path_buf());
    }
    if hands_down(own) {
        return Ok(own.to_path_buf());
    }
    let control = own.join("cgroup.subtree_control");
    match fs::write(&control, "+memory") {
        Ok(()) => return Ok(own.to_path_buf()),
        Err(e) if e.kind() != ErrorKind::ResourceBusy => {
            return Err(format!("{}; {V2_WAY_OUT}", cannot("write to", &control, &e)).into());
        }
        Err(_) => {}
    }
    let procs = fs::read_to_string(own.join("cgroup.procs")).unwrap_or_default();
    if procs.trim() != std::process::id().to_string() {
        return Err(format!(
            "{} holds other processes and so cannot hand the memory controller down; {V2_WAY_OUT}",
            own.display()
        )
        .into());
    }
    let leaf = own.join(DRIVER_LEAF);
    match fs::create_dir(&leaf) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(cannot("make", &leaf, &e)),
        _ => {}
    }
    join(&leaf.join("cgroup.procs")).map_err(|e| cannot("move into", &leaf, &e))?;
    fs::write(&control, "+memory").map_err(|e| cannot("write to", &control, &e))?;
    Ok(own.to_path_buf())
}

const V2_WAY_OUT: &str = "start duel in a cgroup of its own with \
    `systemd-run --user --scope -p Delegate=yes duel …`";

fn remove_dir(dir: &Path, patience: Duration) -> Result<(), Reason> {
    let give_up = Instant::now() + patience;
    loop {
        match fs::remove_dir(dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) if e.kind() == ErrorKind::ResourceBusy && Instant::now() < give_up => {
                std::thread::sleep(Duration::from_millis(2));
            }
            outcome => return outcome.map_err(|e| cannot("remove", dir, &e)),
        }
    }
}

/// Removes empty cgroups of drivers that are gone; one that still holds a process stays.
fn remove_stale(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let owner = entry
            .file_name()
            .to_str()
            .and_then(|name| name.strip_prefix("duel-")?.split_once('-')?.0.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests;
