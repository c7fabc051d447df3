use procfs::{FromBufRead, FromRead};

use super::*;

fn find(controller: &str, mounts: &str, cgroups: &str, v2: &str) -> Result<CgroupPlace, Reason> {
    CgroupPlace::find(
        controller,
        &MountInfos::from_read(mounts.as_bytes()).unwrap(),
        &ProcessCGroups::from_buf_read(cgroups.as_bytes()).unwrap(),
        |_| v2.to_string(),
    )
}

fn place(version: Version, mount: &str, own: &str) -> Result<CgroupPlace, Reason> {
    Ok(CgroupPlace { version, mount: mount.into(), own: own.into() })
}

const V1_MOUNTS: &str = "\
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

#[test]
fn each_controller_is_found_where_its_hierarchy_is_mounted() {
    let v1 = "4:memory:/a/b\n0::/\n";
    assert_eq!(
        find("memory", V1_MOUNTS, v1, "hugetlb\n"),
        place(Version::V1, "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/a/b")
    );
    assert!(find("pids", V1_MOUNTS, v1, "hugetlb\n").is_err(), "no hierarchy has pids");

    let v2 = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
    assert_eq!(
        find("memory", v2, "0::/user.slice/x.scope\n", "cpu memory pids\n"),
        place(Version::V2, "/sys/fs/cgroup", "/sys/fs/cgroup/user.slice/x.scope")
    );
    assert_eq!(
        find("memory", v2, "0::/\n", "memory\n"),
        place(Version::V2, "/sys/fs/cgroup", "/sys/fs/cgroup"),
        "the root of a cgroup namespace"
    );
    assert!(find("memory", v2, "0::/x\n", "cpu\n").is_err(), "v2 without the memory controller");
}

#[test]
fn a_mount_that_begins_inside_the_hierarchy_is_followed_and_one_beside_it_refused() {
    let mounts = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    assert_eq!(
        find("memory", mounts, "4:memory:/docker/abc/x\n", ""),
        place(Version::V1, "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/x")
    );
    assert!(find("memory", mounts, "4:memory:/docker/other\n", "").is_err());
    assert!(find("memory", V1_MOUNTS, "4:memory:/../up\n", "").is_err());
}

#[test]
fn every_level_up_to_the_mount_is_visited() {
    let place = place(Version::V1, "/cg/memory", "/cg/memory/a/b").unwrap();
    let dirs: Vec<_> = place.path_to_root().map(|p| p.to_str().unwrap()).collect();
    assert_eq!(dirs, ["/cg/memory/a/b", "/cg/memory/a", "/cg/memory"]);
}

/// A directory that answers like a v2 cgroup as far as plain files can.
fn v2_dir(subtree_control: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("cgroup.subtree_control"), subtree_control).unwrap();
    dir
}

#[test]
fn v2_uses_the_cgroup_that_hands_memory_down() {
    let own = v2_dir("cpu memory\n");
    assert_eq!(v2_parent(own.path()).as_deref(), Ok(own.path()));

    let leaf = own.path().join(DRIVER_LEAF);
    fs::create_dir(&leaf).unwrap();
    assert_eq!(v2_parent(&leaf).as_deref(), Ok(own.path()), "once moved, the parent serves");

    let enabled = v2_dir("cpu\n");
    assert_eq!(v2_parent(enabled.path()).as_deref(), Ok(enabled.path()));
    let written = fs::read_to_string(enabled.path().join("cgroup.subtree_control")).unwrap();
    assert_eq!(written, "+memory", "the controller must be asked for");
}

#[test]
fn v1_refuses_a_parent_whose_limits_would_not_hold() {
    let dir = tempfile::tempdir().unwrap();
    assert!(v1_parent(dir.path()).is_ok());
    fs::write(dir.path().join("memory.use_hierarchy"), "0\n").unwrap();
    assert!(v1_parent(dir.path()).unwrap_err().contains("escape"));
}

#[test]
fn v2_counters_are_read_by_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let stat = "anon 10\nfile 20\nkernel 30\nkernel_stack 16\npagetables 4\nsock 5\nslab 6\n";
    fs::write(dir.path().join("memory.stat"), stat).unwrap();
    let cgroup =
        Cgroup { dir: dir.path().to_path_buf(), version: Version::V2, has_tcp_counter: true };
    let memory = cgroup.read();
    std::mem::forget(cgroup);
    assert_eq!(
        memory,
        Ok(CgroupMemory {
            rss_bytes: 10,
            cache_bytes: 20,
            kernel_bytes: Some(30),
            kernel_peak_bytes: None,
            socket_bytes: Some(5),
            kernel_stack_bytes: Some(16),
            page_table_bytes: Some(4),
            slab_bytes: Some(6),
        })
    );
}

#[test]
fn a_missing_counter_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("memory.stat"), "anon 10\n").unwrap();
    let cgroup =
        Cgroup { dir: dir.path().to_path_buf(), version: Version::V2, has_tcp_counter: true };
    let error = cgroup.read().unwrap_err();
    std::mem::forget(cgroup);
    assert!(error.contains("`file`"), "{error}");
}

#[test]
fn names_that_could_leave_the_directory_are_refused() {
    for name in ["", "../x", "a/b", "a b", "ü"] {
        assert!(Cgroup::create(name).is_err(), "{name:?} must be refused");
    }
}

#[test]
fn stale_removal_spares_the_living_and_the_unrelated() {
    let parent = tempfile::tempdir().unwrap();
    let alive = format!("duel-{}-x", std::process::id());
    // Larger than any pid that the kernel hands out.
    for name in [alive.as_str(), "duel-4194305-x", DRIVER_LEAF, "other-4194305-x"] {
        fs::create_dir(parent.path().join(name)).unwrap();
    }
    remove_stale(parent.path());
    let mut left: Vec<_> = fs::read_dir(parent.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    let mut expected = [DRIVER_LEAF, alive.as_str(), "other-4194305-x"];
    expected.sort_unstable();
    assert_eq!(left, expected);
}
