//! Sizes of the kernel's objects, which no process can ask for.

use std::fs;

/// Sizes of the kernel's objects, in bytes, as a memory cgroup is charged for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectSizes {
    /// Of a thread: `task_struct` and `pid`.
    pub task_bytes: u64,
    /// Of a TCP socket: `TCP`, `sock_inode_cache`, `filp` and `dentry`.
    pub socket_bytes: u64,
    /// Of a local port, and again of a port at an address: `tcp_bind_bucket`, `tcp_bind2_bucket`.
    pub port_bytes: u64,
    /// Of a mapping: `vm_area_struct`.
    pub mapping_bytes: u64,
    /// Of a mapping's anonymous pages: `anon_vma` and `anon_vma_chain`.
    pub anonymous_bytes: u64,
    /// Of a descriptor in an epoll set: `eventpoll_epi`, `eventpoll_pwq` and `ep_head`.
    pub watched_bytes: u64,
    /// Of a receive that waits in a ring: `io_kiocb`.
    pub armed_bytes: u64,
    /// Whether they are this kernel's, or those that [`ObjectSizes::BUILT_IN`] remembers.
    pub from_kernel: bool,
}

/// The cgroup is charged for the object and for the pointer that says whose it is (`obj_full_size`
/// in Linux mm/slub.c and mm/memcontrol.c).
const OWNER_BYTES: u64 = 8;

/// What a receive that waits in a ring holds beside, and no cgroup is charged for: `kmalloc-512` for
/// the message, `kmalloc-96` for the wait (Linux 6.18, from the growth of `/proc/slabinfo`).
pub(super) const ARMED_UNCHARGED_BYTES: u64 = 512 + 96;

impl ObjectSizes {
    /// Linux 6.18, x86-64, from `/sys/kernel/slab`: for those who may not read it there. The
    /// `task_struct` is the least certain: it ends in the processor's register state, 4,288 bytes in
    /// all on one machine and 5,888 on another.
    pub(crate) const BUILT_IN: ObjectSizes = ObjectSizes {
        task_bytes: 4_288 + 192 + 2 * OWNER_BYTES,
        socket_bytes: 2_368 + 832 + 192 + 192 + 4 * OWNER_BYTES,
        port_bytes: 128 + OWNER_BYTES,
        mapping_bytes: 192 + OWNER_BYTES,
        anonymous_bytes: 104 + 64 + 2 * OWNER_BYTES,
        watched_bytes: 128 + 64 + 16 + 3 * OWNER_BYTES,
        armed_bytes: 256 + OWNER_BYTES,
        from_kernel: false,
    };

    /// The running kernel's, which only root may read; else [`ObjectSizes::BUILT_IN`].
    pub fn read() -> ObjectSizes {
        Self::read_with(|name| {
            let path = format!("/sys/kernel/slab/{name}/slab_size");
            fs::read_to_string(path).ok()?.trim().parse().ok()
        })
        .unwrap_or(Self::BUILT_IN)
    }

    pub(super) fn read_with(size: impl Fn(&str) -> Option<u64>) -> Option<ObjectSizes> {
        let sum = |names: &[&str]| -> Option<u64> {
            names.iter().map(|n| Some(size(n)? + OWNER_BYTES)).sum()
        };
        Some(ObjectSizes {
            task_bytes: sum(&["task_struct", "pid"])?,
            socket_bytes: sum(&["TCP", "sock_inode_cache", "filp", "dentry"])?,
            port_bytes: sum(&["tcp_bind_bucket"])?,
            mapping_bytes: sum(&["vm_area_struct"])?,
            anonymous_bytes: sum(&["anon_vma", "anon_vma_chain"])?,
            watched_bytes: sum(&["eventpoll_epi", "eventpoll_pwq", "ep_head"])?,
            // A kernel may have no rings.
            armed_bytes: sum(&["io_kiocb"]).unwrap_or(Self::BUILT_IN.armed_bytes),
            from_kernel: true,
        })
    }
}
