use super::*;

fn waits(list: &[(u32, u64)]) -> Result<Vec<ThreadWait>, String> {
    Ok(list.iter().map(|&(tid, ns)| ThreadWait { tid, ns }).collect())
}

#[test]
fn waits_add_up_over_threads_and_new_ones_count_from_zero() {
    let then = waits(&[(1, 100), (2, 50)]);
    let now = waits(&[(1, 130), (2, 50), (3, 7)]);
    assert_eq!(waited_since(&now, &then), Ok(37));
}

#[test]
fn a_thread_that_ended_makes_the_wait_unavailable_not_smaller() {
    let error = waited_since(&waits(&[(1, 130)]), &waits(&[(1, 100), (2, 50)])).unwrap_err();
    assert!(error.contains("ended inside the window (1)"), "{error}");
    let error = waited_since(&Err("too many".into()), &waits(&[])).unwrap_err();
    assert_eq!(error, "too many", "the reason of the reading must survive");
}

const STAT: &str = "\
cpu  100 1 20 5000 3 4 5 6 90 0
cpu0 60 0 10 2500 1 2 3 4 0 0
cpu2 40 1 10 2500 2 2 2 2 0 0
intr 1 2 3
";

#[test]
fn machine_time_excludes_idle_waiting_and_stolen_time() {
    let time = MachineTime::parse(STAT, 100).unwrap();
    assert_eq!(time.busy_ns, (100 + 1 + 20 + 4 + 5) * 10_000_000);
    assert_eq!(time.steal_ns, 60_000_000);
    let cpu0 = (60 + 10 + 2 + 3) * 10_000_000;
    let cpu2 = (40 + 1 + 10 + 2 + 2) * 10_000_000;
    assert_eq!(time.cpu_busy_ns, [Some(cpu0), None, Some(cpu2)], "CPU 1 is offline");
}

#[test]
fn machine_time_refuses_what_it_does_not_know() {
    assert!(MachineTime::parse("", 100).is_err());
    assert!(MachineTime::parse("cpu 1 2 3\n", 100).is_err());
    assert!(MachineTime::parse("cpu0 1 2 3 4 5 6 7 8\n", 100).is_err(), "no total line");
}

#[test]
fn a_counter_that_steps_back_is_no_huge_number() {
    let then = MachineTime::parse(STAT, 100).unwrap();
    let now = MachineTime::parse("cpu  1 1 1 1 1 1 1 1\ncpu0 1 1 1 1 1 1 1 1\n", 100).unwrap();
    let spent = now.since(&then);
    assert_eq!((spent.busy_ns, spent.steal_ns), (0, 0));
    assert_eq!(spent.cpu_busy_ns, [Some(0)]);
}

#[test]
fn a_kernel_without_schedstat_has_no_wait_rather_than_a_wait_of_zero() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let write = |text: Option<&str>| {
        for tid in ["11", "12", "13"] {
            let thread = dir.path().join(tid);
            std::fs::create_dir_all(&thread).unwrap();
            let file = thread.join("schedstat");
            let _ = std::fs::remove_file(&file);
            text.into_iter().for_each(|text| std::fs::write(&file, text).unwrap());
        }
    };
    write(Some("5000 70 3\n"));
    let all: u64 = read_waits(path, u64::MAX).unwrap().iter().map(|t| t.ns).sum();
    assert_eq!(all, 210);
    write(None);
    let why = read_waits(path, u64::MAX).unwrap_err();
    assert!(why.contains("schedstat") && why.contains("No such file"), "{why}");
    write(Some("0 0 0\n"));
    let why = read_waits(path, u64::MAX).unwrap_err();
    assert!(why.contains("does not account"), "{why}");
    write(Some("nonsense\n"));
    let why = read_waits(path, u64::MAX).unwrap_err();
    assert!(why.contains("not as expected"), "{why}");
}
