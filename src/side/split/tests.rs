use std::collections::HashMap;

use super::*;

/// One mapping as smaps prints it, shortened to the lines that count.
fn mapping(
    start: u64,
    size: u64,
    flags: &str,
    name: &str,
    rss_kib: u64,
    anonymous_kib: u64,
) -> String {
    format!(
        "{start:x}-{:x} {flags} 00000000 00:00 0 {name}\nSize: {} kB\nRss: {rss_kib:>8} kB\n\
         Anonymous: {anonymous_kib} kB\nVmFlags: rd wr mr\n",
        start + size,
        size >> 10
    )
}

#[test]
fn mappings_are_sorted_by_their_shape() {
    let page = 4 << 10;
    let signal = crate::sys::signal_stack_bytes();
    let text = [
        mapping(0x10_0000, 8 * page, "r-xp", "/usr/bin/duel", 32, 0),
        mapping(0x20_0000, 2 * page, "rw-p", "/usr/bin/duel", 8, 4),
        mapping(0x30_0000, 64 * page, "rw-p", "[heap]", 100, 100),
        // A thread's stack, its signal stack, and a stack that was merged with a block above it.
        mapping(0x50_0000, page, "---p", "", 0, 0),
        mapping(0x50_1000, 64 << 10, "rw-p", "", 12, 12),
        mapping(0x60_0000, page, "---p", "", 0, 0),
        mapping(0x60_1000, signal, "rw-p", "", 4, 4),
        mapping(0x70_0000, page, "---p", "", 0, 0),
        mapping(0x70_1000, 160 << 10, "rw-p", "", 60, 60),
        // An arena, whose inaccessible rest stands above it, and what follows that at a distance.
        mapping(0x400_0000, 132 << 10, "rw-p", "", 40, 40),
        mapping(0x402_1000, (64 << 20) - (132 << 10), "---p", "", 0, 0),
        // The next arena, right above it.
        mapping(0x800_0000, 132 << 10, "rw-p", "", 20, 20),
        mapping(0x900_0000, page, "rw-s", "/memfd:duel-counters (deleted)", 4, 0),
        mapping(0x7ff0_0000, 132 << 10, "rw-p", "[stack]", 16, 16),
    ]
    .concat();
    let mut look = Look::default();
    let in_stack = |start, end| {
        assert_eq!((start, end), (0x70_1000, 0x71_1000), "the lower end is the stack");
        Some(8 << 10)
    };
    walk(text.as_bytes(), &[64 << 10, 2 << 20], &mut look, in_stack).unwrap();
    let expected = Look {
        stack_bytes: 20 << 10,
        signal_stack_bytes: 4 << 10,
        heap_resident_bytes: (100 + 52 + 40 + 20) << 10,
        program_bytes: 20 << 10,
        mappings: 14,
        anonymous_mappings: 8,
        ..Look::default()
    };
    assert_eq!(look, expected);
}

#[test]
fn object_sizes_are_the_kernels_only_when_every_one_is_known() {
    let known: HashMap<&str, u64> = [
        ("task_struct", 5_888),
        ("pid", 192),
        ("TCP", 2_368),
        ("sock_inode_cache", 832),
        ("filp", 192),
        ("dentry", 192),
        ("tcp_bind_bucket", 128),
        ("vm_area_struct", 192),
        ("anon_vma", 104),
        ("anon_vma_chain", 64),
        ("eventpoll_epi", 128),
        ("eventpoll_pwq", 64),
        ("ep_head", 16),
    ]
    .into();
    let sizes = ObjectSizes::read_with(|name| known.get(name).copied()).unwrap();
    let expected =
        ObjectSizes { task_bytes: 5_888 + 192 + 16, from_kernel: true, ..ObjectSizes::BUILT_IN };
    assert_eq!(sizes, expected);
    for missing in known.keys() {
        let without = ObjectSizes::read_with(|n| known.get(n).filter(|_| n != *missing).copied());
        assert_eq!(without, None, "without {missing}");
    }
}

#[test]
fn a_ring_is_its_queues_and_what_waits_in_it() {
    let said = "SqMask:\t0x3ff\nSqHead:\t7\nCqMask:\t0xfff\nPollList:\n  op=27, task_works=0\n  \
                op=27, task_works=0\nCqOverflowList:\n";
    let (mut one, mut two) = (Look::default(), Look::default());
    one.add_ring(said.lines().map(String::from));
    assert_eq!((one.ring_bytes, one.armed), (1024 * 64 + 4096 * 16, 2));
    for _ in 0..2 {
        two.add_ring(said.lines().map(String::from));
    }
    let [then, now] = [one, two].map(|look| Moment {
        look: Some(look),
        cgroup: Some(CgroupMemory {
            kernel_bytes: Some(1_000),
            socket_bytes: Some(0),
            ..CgroupMemory::default()
        }),
        held_bytes: None,
    });
    let split = between(&then, &now, Some(Version::V1), &ObjectSizes::BUILT_IN).unwrap();
    assert_eq!(split.ring_bytes, 1024 * 64 + 4096 * 16 + 2 * (264 + 608));
    assert_eq!(split.total_bytes, Some(2 * 608), "what no cgroup was charged for is in the total");
    assert_eq!(Some(split.parts_bytes() + split.unattributed_bytes.unwrap()), split.total_bytes);
}

#[test]
fn a_split_adds_up_and_leaves_out_what_nobody_counted() {
    let look = |threads| Look {
        stack_bytes: threads * 8_192,
        heap_resident_bytes: 100_000 + threads * 1_000,
        page_table_bytes: 50_000,
        threads,
        mappings: 50 + 4 * threads,
        ..Look::default()
    };
    let group = |bytes| CgroupMemory {
        rss_bytes: bytes,
        kernel_bytes: Some(2 * bytes),
        socket_bytes: Some(4_096),
        ..CgroupMemory::default()
    };
    let then =
        Moment { look: Some(look(3)), cgroup: Some(group(1_000_000)), held_bytes: Some(90_000) };
    let now =
        Moment { look: Some(look(103)), cgroup: Some(group(2_000_000)), held_bytes: Some(200_000) };
    let sizes = ObjectSizes::BUILT_IN;
    let split = between(&then, &now, Some(Version::V1), &sizes).unwrap();
    assert_eq!((split.source, split.threads), (SplitSource::CgroupV1, 100));
    assert_eq!(split.kernel_stack_bytes, 100 * 16_384);
    assert_eq!(split.heap_bytes, Some(110_000));
    assert_eq!(split.heap_slack_bytes, Some(-10_000), "what was never touched");
    assert_eq!(split.total_bytes, Some(3_000_000));
    assert_eq!(split.parts_bytes() + split.unattributed_bytes.unwrap(), 3_000_000);

    let bare = |m: &Moment| Moment { cgroup: None, held_bytes: None, ..*m };
    let split = between(&bare(&then), &bare(&now), None, &sizes).unwrap();
    assert_eq!(split.source, SplitSource::Proc);
    assert_eq!((split.total_bytes, split.unattributed_bytes), (None, None));
    assert_eq!((split.heap_bytes, split.heap_resident_bytes), (None, 100_000));
    assert_eq!(between(&then, &Moment::default(), None, &sizes), None);
}

#[test]
fn this_process_can_be_looked_at() {
    let before = Ports::read();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut inodes = HashSet::new();
    let mut look = Look::default();
    look.add(std::process::id(), 2 << 20, &mut inodes).unwrap();
    drop(listener);
    assert!(look.sockets > 0 && !inodes.is_empty(), "{look:?}");
    assert_eq!(before.added(&HashSet::new()), 0, "no socket has no port");
    assert!(look.stack_bytes > 0, "the test's own thread has a stack: {look:?}");
    assert!(look.heap_resident_bytes > 0 && look.mappings > 10 && look.fd_slots > 0, "{look:?}");
    let error = Look::default().add(u32::MAX, 2 << 20, &mut inodes).unwrap_err();
    assert!(error.contains("/proc/4294967295"), "{error}");
}
