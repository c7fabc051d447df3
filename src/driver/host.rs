//! Provenance: the machine and the binary behind a result, read once.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::cpus;
use crate::side::cgroup::{CgroupPlace, Version};
use crate::units::SECOND_NS;

/// The facts of a machine that move a result. `None` where the machine does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostFacts {
    pub kernel_release: Option<String>,
    /// Kernel build, as `uname -v`; names the preemption model.
    pub kernel_version: Option<String>,
    pub architecture: String,
    pub cpu_model: Option<String>,
    pub(crate) cpus_online: Vec<u32>,
    pub cpus_allowed: Vec<u32>,
    pub threads_per_core: Option<u32>,
    /// Frequency governors in use, sorted; empty without frequency scaling.
    pub governors: Vec<String>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) swap_bytes: Option<u64>,
    pub page_bytes: u64,
    /// Transparent huge pages: `always`, `madvise` or `never`.
    pub transparent_huge_pages: Option<String>,
    /// Clock source; reading one other than `tsc` may cost a system call.
    pub clocksource: Option<String>,
    /// Timer interrupts per second (CONFIG_HZ), from the resolution of the coarse clock.
    pub tick_hz: Option<u64>,
    /// Why this looks like a virtual machine or a container, in a few words each.
    pub virtualization: Vec<String>,
    pub memory_cgroup: Option<Version>,
    /// Version of glibc; `None` when it is not linked in.
    pub glibc: Option<String>,
}

impl HostFacts {
    /// Reads the machine: a dozen small files and the head of libc.
    pub(crate) fn read() -> HostFacts {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let online = text("/sys/devices/system/cpu/online").map(|t| cpus::parse_list(&t));
        HostFacts {
            kernel_release: text("/proc/sys/kernel/osrelease"),
            kernel_version: text("/proc/sys/kernel/version"),
            architecture: std::env::consts::ARCH.to_string(),
            cpu_model: field(&cpuinfo, "model name").or_else(|| field(&cpuinfo, "Processor")),
            cpus_online: online.unwrap_or_default(),
            cpus_allowed: cpus::allowed().unwrap_or_default(),
            threads_per_core: text("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")
                .map(|t| cpus::parse_list(&t).len() as u32),
            governors: governors(),
            memory_bytes: kib(&meminfo, "MemTotal"),
            swap_bytes: kib(&meminfo, "SwapTotal"),
            page_bytes: procfs::page_size(),
            transparent_huge_pages: text("/sys/kernel/mm/transparent_hugepage/enabled")
                .and_then(|t| selected(&t)),
            clocksource: text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            tick_hz: tick_hz(),
            virtualization: virtualization(&cpuinfo),
            memory_cgroup: CgroupPlace::of("memory").ok().map(|place| place.version),
            glibc: glibc(),
        }
    }
}

pub fn name() -> String {
    text("/proc/sys/kernel/hostname").unwrap_or_else(|| "unnamed".into())
}

/// The kernel's random id of this boot: equal in all processes of one machine.
pub fn boot_id() -> String {
    text("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// Kernel and network namespace of this process: two processes that agree in both share their
/// loopback.
pub fn loopback() -> String {
    let boot = boot_id();
    let network = fs::read_link("/proc/self/ns/net").unwrap_or_default();
    format!("{boot} {}", network.display())
}

pub fn binary_digest() -> io::Result<String> {
    let named =
        |e: io::Error| io::Error::new(e.kind(), format!("/proc/self/exe: {e}; is /proc mounted?"));
    sha256(File::open("/proc/self/exe").map_err(named)?)
}

/// Revision of the source that the binary was built from, `-dirty` with uncommitted changes;
/// `None` when it was built outside of a git work tree.
pub fn git_revision() -> Option<&'static str> {
    option_env!("DUEL_GIT_REVISION").filter(|revision| !revision.is_empty())
}

fn sha256(mut from: impl Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 64 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|t| t.trim().to_string()).filter(|t| !t.is_empty())
}

/// The value of the first `key : value` line.
fn field(text: &str, key: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == key)
        .map(|(_, value)| value.trim().to_string())
}

fn kib(meminfo: &str, key: &str) -> Option<u64> {
    field(meminfo, key)?.strip_suffix("kB")?.trim().parse::<u64>().ok().map(|n| n << 10)
}

/// The bracketed word of the kernel's `always [madvise] never`.
fn selected(text: &str) -> Option<String> {
    Some(text.split_once('[')?.1.split_once(']')?.0.to_string())
}

fn governors() -> Vec<String> {
    let Ok(policies) = fs::read_dir("/sys/devices/system/cpu/cpufreq") else { return Vec::new() };
    let found: BTreeSet<String> = policies
        .flatten()
        .filter_map(|policy| fs::read_to_string(policy.path().join("scaling_governor")).ok())
        .map(|governor| governor.trim().to_string())
        .collect();
    found.into_iter().collect()
}

/// The coarse clock advances once a tick.
fn tick_hz() -> Option<u64> {
    let resolution = rustix::time::clock_getres(rustix::time::ClockId::MonotonicCoarse);
    let ns = resolution.tv_sec as u64 * SECOND_NS + resolution.tv_nsec as u64;
    (ns > 0).then(|| (SECOND_NS + ns / 2) / ns)
}

fn virtualization(cpuinfo: &str) -> Vec<String> {
    let mut hints = Vec::new();
    let flags = field(cpuinfo, "flags").unwrap_or_default();
    if flags.split_ascii_whitespace().any(|flag| flag == "hypervisor") {
        hints.push("hypervisor CPU flag".to_string());
    }
    for path in ["/sys/class/dmi/id/sys_vendor", "/sys/class/dmi/id/product_name"] {
        hints.extend(text(path));
    }
    hints.extend(text("/sys/hypervisor/type"));
    for (path, hint) in
        [("/.dockerenv", "docker"), ("/run/.containerenv", "podman"), ("/proc/vz", "openvz")]
    {
        if fs::exists(path).unwrap_or(false) {
            hints.push(hint.to_string());
        }
    }
    hints
}

/// Reads the version from the library that is mapped in; asking the library itself needs `unsafe`.
fn glibc() -> Option<String> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| &line[at..]))
        .find(|path| path.rsplit('/').next().is_some_and(|name| name.starts_with("libc.so.")))?;
    glibc_version(&fs::read(path).ok()?)
}

fn glibc_version(library: &[u8]) -> Option<String> {
    const BANNER: &[u8] = b"GNU C Library";
    let banner = library.windows(BANNER.len()).position(|window| window == BANNER)?;
    let line = library[banner..].split(|byte| matches!(byte, b'\n' | 0)).next()?;
    let line = String::from_utf8_lossy(line);
    let version = line.split_once("version ")?.1.trim_end_matches('.');
    Some(version.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_every_byte() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(io::empty()).unwrap(), empty);
        // FIPS 180-4: a million times "a", more than one buffer.
        let million = io::repeat(b'a').take(1_000_000);
        let digest = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        assert_eq!(sha256(million).unwrap(), digest);
        assert_eq!(binary_digest().unwrap().len(), 64);
    }

    #[test]
    fn kernel_texts_are_read_as_they_are_written() {
        assert_eq!(selected("always [madvise] never").as_deref(), Some("madvise"));
        assert_eq!(selected("always"), None);
        assert_eq!(kib("MemTotal:       24684012 kB\n", "MemTotal"), Some(24_684_012 << 10));
        assert_eq!(kib("MemTotal: many kB\n", "MemTotal"), None);
        assert_eq!(field("a\t: b c\n", "a").as_deref(), Some("b c"));
        let banner = b"\0GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\nCopy";
        assert_eq!(glibc_version(banner).as_deref(), Some("2.36"));
        assert_eq!(glibc_version(b"musl"), None);
    }

    #[test]
    fn this_machine_can_be_read_and_written() {
        let machine = HostFacts::read();
        assert!(machine.kernel_release.is_some(), "no kernel release");
        assert!(!machine.cpus_online.is_empty(), "no CPU online");
        assert!(
            machine.cpus_allowed.iter().all(|cpu| machine.cpus_online.contains(cpu)),
            "allowed beyond online"
        );
        assert!(machine.memory_bytes.is_some_and(|bytes| bytes > 0), "no memory");
        let json = serde_json::to_string(&machine).unwrap();
        assert_eq!(serde_json::from_str::<HostFacts>(&json).unwrap(), machine);
    }
}
