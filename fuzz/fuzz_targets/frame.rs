//! The frames between driver and worker on any bytes: a frame or an error, no panic; what was read is
//! written and read again as the same frame.
//!
//! Run: `RUSTC_BOOTSTRAP=1 cargo fuzz run frame -- -max_total_time=600`

#![no_main]

use duel::protocol::Frame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(frame) = Frame::read_from(&mut &data[..]) {
        let mut line = Vec::new();
        if frame.write_to(&mut line).is_ok() {
            let again = Frame::parse(&line).expect("what was written is a frame");
            assert_eq!(again, frame);
        }
    }
});
