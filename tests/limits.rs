//! Limits: predicted from what was read, and met where they were predicted.

use duel::driver::limits::*;
#[test]
fn show() {
    let l = Limits::read();
    println!("{l:#?}");
    for n in [None, Some(16_500), Some(25_000)] {
        println!("{}", Report::new(&l, TargetKind::Embedded { processes: 1 }, n));
    }
    println!("{}", Report::new(&l, TargetKind::External { loopback: false }, Some(30_000)));
    println!("{:#?}", duel::driver::host::Machine::read());
    println!("{:?}", duel::driver::host::git_revision());
}
