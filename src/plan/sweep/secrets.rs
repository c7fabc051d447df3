//! What of a sweep is written and shown.

use sha2::{Digest, Sha256};

use super::Sweep;
use crate::plan::variable_name;

/// What stands in place of a masked header value.
const MASK: &str = "***";

impl Sweep {
    /// This sweep as it may be written and shown: the values of headers that hold secrets are
    /// `***` unless they only name an environment variable.
    pub fn masked(&self) -> Sweep {
        let mut masked = self.clone();
        for (name, value) in masked.templates_mut().flat_map(|r| r.headers.iter_mut()) {
            if is_secret_header(name) && variable_name(value).is_none() {
                *value = MASK.into();
            }
        }
        let own = masked
            .server
            .iter_mut()
            .flat_map(|server| server.own.iter_mut().chain(&mut server.owns));
        for (name, value) in own.flat_map(|own| &mut own.env) {
            if is_secret_header(name) {
                *value = MASK.into();
            }
        }
        masked
    }

    /// This sweep without bodies that were typed on a command line, where they may be secrets: for each
    /// stands a variable of the environment, whose name tells one body from another.
    pub(crate) fn without_bodies(mut self) -> Sweep {
        for template in self.templates_mut().filter(|template| !template.body.is_empty()) {
            let text = std::str::from_utf8(&template.body);
            if text.is_ok_and(|text| variable_name(text).is_some()) {
                continue;
            }
            let digest = Sha256::digest(&template.body);
            let hex: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
            template.body = format!("$DUEL_BODY_{hex}").into();
        }
        self
    }
}

/// Whether a header's value is kept out of all output.
pub(crate) fn is_secret_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [
        "auth",
        "bearer",
        "cookie",
        "credential",
        "jwt",
        "key",
        "pass",
        "pwd",
        "secret",
        "session",
        "signature",
        "token",
    ]
    .iter()
    .any(|part| name.contains(part))
}
