//! What a rayon pool with one thread per lane costs by itself: a bare pool, jobs that only sleep, no duel.
//! The memory ladder's large pools do not connect within their minute, and this says why.
//!
//! ```text
//! taskset -c 0 cargo run --release --example rayon_pool -- 1000 3000
//! ```

use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use duel::sys::process_cpu_ns;

/// Time that each job sleeps, as the answers of configs/memory-ladder.toml take.
const SLEEP: Duration = Duration::from_secs(3);

/// Starts a pool, and has each of its threads sleep once.
fn measure(threads: usize) -> Result<(), rayon::ThreadPoolBuildError> {
    let cpu_s = |since: u64| (process_cpu_ns() - since) as f64 / 1e9;
    let (begun, cpu) = (Instant::now(), process_cpu_ns());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(64 << 10).build()?;
    let (started, started_cpu) = (begun.elapsed().as_secs_f64(), cpu_s(cpu));
    let (begun, cpu) = (Instant::now(), process_cpu_ns());
    let (done, all) = channel::<()>();
    for _ in 0..threads {
        let done = done.clone();
        pool.spawn_fifo(move || {
            std::thread::sleep(SLEEP);
            drop(done);
        });
    }
    drop(done);
    // It ends when the last job has let go of its sender.
    let _ = all.recv();
    println!(
        "{threads} threads: started in {started:.1} s ({started_cpu:.1} s of CPU); as many jobs that \
         sleep 3 s took {:.1} s ({:.1} s of CPU)",
        begun.elapsed().as_secs_f64(),
        cpu_s(cpu),
    );
    Ok(())
}

fn main() -> ExitCode {
    for argument in std::env::args().skip(1) {
        let measured = match argument.parse() {
            Ok(threads @ 1..=10_000) => measure(threads).map_err(|e| e.to_string()),
            _ => Err(format!("`{argument}` is no number of threads from 1 to 10000")),
        };
        if let Err(error) = measured {
            eprintln!("rayon_pool: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
