//! A folder that goes when the demo does.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

/// A temporary folder, removed when dropped.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes one with a name that nobody else has.
    pub(super) fn new() -> io::Result<Self> {
        let path = env::temp_dir().join(format!("sublet-demo-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system, as all temporary files are.
        fs::remove_dir_all(&self.0).ok();
    }
}
