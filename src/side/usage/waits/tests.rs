use super::*;

fn waits(list: &[(u32, u64)]) -> Result<Waits, Reason> {
    Ok(list.iter().copied().collect())
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
    assert_eq!(&*error, "too many", "the reason of the reading must survive");
}

#[test]
fn a_thread_that_begins_and_ends_in_between_leaves_its_wait_behind() {
    let before = read(u64::MAX).unwrap();
    let tid = std::thread::spawn(|| {
        thread_ends();
        rustix::thread::gettid().as_raw_nonzero().get() as u32
    })
    .join()
    .unwrap();
    let after = read(u64::MAX).unwrap();
    assert!(!before.contains_key(&tid), "thread {tid} was there before it began");
    assert!(after.contains_key(&tid), "thread {tid} ended and took its wait along");
}

#[test]
fn a_thread_that_was_there_before_and_said_its_wait_spoils_no_sum() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        tell.send(rustix::thread::gettid().as_raw_nonzero().get() as u32).unwrap();
        let _ = wait.recv();
        thread_ends();
    });
    let tid = told.recv().unwrap();
    // Other tests' threads come and go in this process, so only this one's is looked at.
    let only = |mut waits: Waits| {
        waits.retain(|id, _| *id == tid);
        Ok(waits)
    };
    let before = only(read(u64::MAX).unwrap());
    drop(go);
    thread.join().unwrap();
    let after = only(read(u64::MAX).unwrap());
    assert_eq!(before.as_ref().map(Waits::len), Ok(1), "thread {tid} was there");
    assert!(waited_since(&after, &before).is_ok(), "thread {tid} took its wait along");
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
    let all: u64 = read_living(path, u64::MAX).unwrap().values().sum();
    assert_eq!(all, 210);
    write(None);
    let why = read_living(path, u64::MAX).unwrap_err();
    assert!(why.contains("schedstat") && why.contains("No such file"), "{why}");
    write(Some("0 0 0\n"));
    let why = read_living(path, u64::MAX).unwrap_err();
    assert!(why.contains("does not account"), "{why}");
    write(Some("nonsense\n"));
    let why = read_living(path, u64::MAX).unwrap_err();
    assert!(why.contains("not as expected"), "{why}");
}
