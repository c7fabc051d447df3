use super::*;

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
