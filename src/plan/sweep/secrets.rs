//! What of a sweep is written and shown.

use super::Sweep;
use crate::plan::variable_name;

/// Parts of the names of headers and variables that hold secrets.
const SECRET: &str =
    "auth bearer cookie credential jwt key pass pwd secret session signature token";

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

    /// This sweep as a run directory keeps it. For bodies that were typed on a command line, where they
    /// may be secrets, stands a variable of the environment, whose name tells one body from another;
    /// those of files are known by their digests.
    pub(crate) fn stored(mut self, typed: bool) -> Sweep {
        for template in self.templates_mut().filter(|template| !template.body.is_empty()) {
            let text = std::str::from_utf8(&template.body);
            if typed && text.ok().and_then(variable_name).is_none() {
                template.body = format!("$DUEL_BODY_{}", &template.body_sha256()[..8]).into();
                template.body_file = None;
            } else if template.body_file.is_some() {
                template.body.clear();
            }
        }
        self
    }
}

/// Whether a header's value was kept out of what was written.
pub(crate) fn is_masked(name: &str, value: &str) -> bool {
    is_secret_header(name) && value == MASK
}

/// Whether a header's value is kept out of all output.
fn is_secret_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET.split(' ').any(|part| name.contains(part))
}
