//! The config parser on any text and any override: a sweep or one error, no panic; what resolves can
//! be hashed, and its grid and order made, within the bounds that the parser promises.
//!
//! Run: `RUSTC_BOOTSTRAP=1 cargo fuzz run config -- -max_total_time=600`

#![no_main]

use duel::config::parse;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (over, text) = text.split_once('\0').unwrap_or(("", &text));
    let overrides: Vec<String> = over.split('\u{1}').filter(|o| !o.is_empty()).map(Into::into).collect();
    match parse(text, "x.toml", &overrides, Path::new("/nonexistent")) {
        Ok(sweep) => {
            let _ = sweep.plan_hash();
            let _ = sweep.masked();
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
