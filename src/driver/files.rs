//! The files of file steps, as the driver sees to them: gone when the trial is, however it ended for
//! its workers.

use std::path::PathBuf;

use crate::plan::RequestTemplate;
use crate::work::files;

/// The name of a trial's directories, and where its workers make them.
pub(super) struct StepFiles {
    name: String,
    dirs: Vec<PathBuf>,
}

impl StepFiles {
    /// Of the workers or servers of these numbers, which are those that run here.
    pub(super) fn of(mix: &[RequestTemplate], workers: impl Iterator<Item = u32>) -> Self {
        let name = files::new_name();
        let of_worker = |w| files::directories(mix, &files::worker_name(&name, w));
        StepFiles { dirs: workers.flat_map(of_worker).collect(), name }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for StepFiles {
    fn drop(&mut self) {
        files::remove(&self.dirs);
    }
}
