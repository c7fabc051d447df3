//! Steps by themselves, on real files.

use super::*;

fn step(op: FileOp, bytes: u64, dir: &Path) -> FileStep {
    let dir = Some(dir.to_path_buf());
    FileStep { op, bytes, files: 3, direct: false, sync: false, dir }
}

fn at(number: usize, index: u64) -> StepAt {
    StepAt { template: 0, number, index }
}

fn plan(steps: Vec<StepPlan>) -> Vec<RequestTemplate> {
    vec![RequestTemplate { steps, ..RequestTemplate::default() }]
}

fn work(steps: Vec<StepPlan>) -> Arc<Work> {
    Work::prepare(&plan(steps), "made").expect("files can be made").expect("there are steps")
}

#[test]
fn a_plan_without_steps_has_no_work() {
    assert!(
        Work::prepare(&[RequestTemplate::default()], "none").expect("nothing to make").is_none()
    );
}

#[test]
fn files_are_there_while_the_work_is_and_gone_after_it() {
    let home = tempfile::tempdir().expect("a directory");
    // Longer than a chunk, and no multiple of one.
    let bytes = CHUNK_BYTES as u64 * 2 + 7;
    let steps = vec![
        StepPlan::File(step(FileOp::Read, bytes, home.path())),
        StepPlan::Http,
        StepPlan::File(FileStep { sync: true, ..step(FileOp::Write, bytes, home.path()) }),
        StepPlan::Compute { bytes },
    ];
    let work = work(steps);
    let files = || std::fs::read_dir(home.path().join("made")).map_or(0, Iterator::count);
    assert_eq!(files(), 6);
    let mut kit = Kit::new(&work);
    for index in 0..7 {
        for number in [0, 2, 3] {
            let done = kit.perform(StepAt { template: 0, number, index });
            assert!(done.is_ok(), "step {number} of request {index}: {done:?}");
        }
    }
    let written = std::fs::read(home.path().join("made/request0-step2-1")).expect("it is there");
    assert_eq!(written.len() as u64, bytes);
    assert_eq!(written[..CHUNK_BYTES], *text());
    drop(kit);
    drop(work);
    assert!(!home.path().join("made").exists(), "the files outlive their work");
}

#[test]
fn a_missing_file_and_a_short_one_are_named() {
    let home = tempfile::tempdir().expect("a directory");
    let work = work(vec![StepPlan::File(step(FileOp::Read, 10_000, home.path()))]);
    let path = |n: u32| home.path().join(format!("made/request0-step0-{n}"));
    std::fs::remove_file(path(0)).expect("it is there");
    std::fs::write(path(1), vec![0; 999]).expect("it can be written");
    let mut kit = Kit::new(&work);
    let missing = format!("{:#}", kit.perform(at(0, 0)).expect_err("there is no file"));
    assert!(missing.contains("step0-0") && missing.contains("No such file"), "{missing}");
    let short = format!("{:#}", kit.perform(at(0, 1)).expect_err("the file is short"));
    assert!(short.contains("step0-1: short read: 999 of 10000 bytes"), "{short}");
    kit.perform(at(0, 2)).expect("it can be carried out");
}

#[test]
fn a_directory_that_is_not_there_or_taken_is_named() {
    let home = tempfile::tempdir().expect("a directory");
    let missing = plan(vec![StepPlan::File(step(FileOp::Read, 1, &home.path().join("none")))]);
    let why = Work::prepare(&missing, "made").expect_err("there is no such directory");
    let why = format!("{why:#}");
    assert!(why.contains("none/made: No such file"), "{why}");
    let plan = plan(vec![StepPlan::File(step(FileOp::Read, 1, home.path()))]);
    let first = Work::prepare(&plan, "made").expect("nothing is in the way");
    let why = Work::prepare(&plan, "made").expect_err("another has the name");
    let why = format!("{why:#}");
    assert!(why.contains("File exists"), "{why}");
    assert!(home.path().join("made").exists(), "and keeps its files");
    drop(first);
}

#[test]
fn direct_steps_read_and_write_aligned_chunks() {
    // Where the build is, since a directory for temporary files may lie in memory.
    let home = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
    let bytes = CHUNK_BYTES as u64 + DIRECT_ALIGN_BYTES;
    let direct = |op| StepPlan::File(FileStep { direct: true, ..step(op, bytes, home.path()) });
    let plan = plan(vec![direct(FileOp::Read), direct(FileOp::Write)]);
    match Work::prepare(&plan, "made") {
        Ok(work) => {
            let mut kit = Kit::new(&work.expect("there are steps"));
            kit.perform(at(0, 1)).expect("it can be carried out");
            kit.perform(at(1, 1)).expect("it can be carried out");
        }
        // Some file systems have no direct access; then that is what is said, before the trial.
        Err(why) => assert!(format!("{why:#}").contains("Invalid argument"), "{why:#}"),
    }
}

#[test]
fn a_buffer_is_aligned_and_no_longer_than_a_chunk() {
    let home = tempfile::tempdir().expect("a directory");
    let work = work(vec![StepPlan::File(step(FileOp::Read, 100_000, home.path()))]);
    let kit = Kit::new(&work);
    assert_eq!(kit.buffer.len(), CHUNK_BYTES + DIRECT_ALIGN_BYTES as usize);
    assert_eq!(kit.buffer[kit.begins..].as_ptr() as usize % DIRECT_ALIGN_BYTES as usize, 0);
}
