//! The saved state of a run: everything that a bit-for-bit continuation needs, in one file.
//!
//! `state.safetensors` holds the flat arenas (parameters, running statistics, optimiser, average) as tensors and the
//! position and history ([`Progress`]) as JSON in its metadata, under one SHA-256: there is no pair of files that could
//! belong to different moments. Any safetensors reader can look inside.
//!
//! # Saving
//! 1. write `state.new.safetensors` (itself through a temporary file, synced and renamed),
//! 2. read it back and compare the digest,
//! 3. rename `state.safetensors` to `state.previous.safetensors`,
//! 4. rename `state.new.safetensors` to `state.safetensors`, sync the folder.
//!
//! Wherever a kill, a full disk or a lost power supply strikes, a whole state is left. [`Store::load`] takes the newest
//! that verifies and says which ones did not.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::{error::TrainError, weights::atomic};

mod format;
mod progress;

pub(crate) use format::{Arena, SavedState};
pub use progress::EpochMetrics;
pub(crate) use progress::Progress;

/// The places in a save where tests strike. In production nothing happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SaveStage {
    /// Nothing was written yet.
    Begin,
    /// The temporary file is open and holds the header.
    HeaderWritten,
    /// The temporary file is complete, but not synced.
    Written,
    /// `state.new.safetensors` is on disk.
    Synced,
    /// It was read back and found whole.
    Verified,
    /// The last state has become the previous one.
    Rotated,
    /// The new state is in its place; the folder is not synced.
    Renamed,
}

/// Called at each stage of a save; an error there stands for the system's refusal.
pub(crate) type SaveHook<'a> = &'a mut dyn FnMut(SaveStage) -> io::Result<()>;

/// Where a run's states lie.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    folder: PathBuf,
}

/// A state that was found, and what was not usable on the way.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) state: SavedState,
    /// One line per damaged file.
    pub(crate) warnings: Vec<String>,
}

const CURRENT: &str = "state.safetensors";
const PREVIOUS: &str = "state.previous.safetensors";
const NEW: &str = "state.new.safetensors";

impl Store {
    pub(crate) fn new(folder: &Path) -> Self {
        Store {
            folder: folder.to_path_buf(),
        }
    }

    /// The file that holds the newest state.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join(CURRENT)
    }

    /// Saves a state as the newest; see the [module](self) for the order of things.
    ///
    /// # Errors
    /// The system's refusal, or `State` where the file read back is not the one written. The states before are intact.
    pub(crate) fn save(
        &self,
        progress: &Progress,
        arenas: &[Arena<'_>],
        hook: SaveHook<'_>,
    ) -> Result<(), TrainError> {
        let (new, current, previous) = (
            self.folder.join(NEW),
            self.path(),
            self.folder.join(PREVIOUS),
        );
        let result = self.save_new(&new, progress, arenas, hook).and_then(|()| {
            if current.exists() {
                fs::rename(&current, &previous)
                    .map_err(|cause| TrainError::io(&current, "rename", cause))?;
            }
            hook(SaveStage::Rotated)
                .map_err(|cause| TrainError::io(&new, "rename into place", cause))?;
            fs::rename(&new, &current)
                .map_err(|cause| TrainError::io(&current, "rename into place", cause))?;
            hook(SaveStage::Renamed)
                .map_err(|cause| TrainError::io(&self.folder, "sync", cause))?;
            sync_folder(&self.folder)
        });
        if result.is_err() && current.exists() {
            // A state that is not in its place after a failure is given up; without a current one it is the best there is.
            let _ = fs::remove_file(&new);
        }
        result
    }

    fn save_new(
        &self,
        new: &Path,
        progress: &Progress,
        arenas: &[Arena<'_>],
        hook: SaveHook<'_>,
    ) -> Result<(), TrainError> {
        let refused = |action| move |cause| TrainError::io(new, action, cause);
        hook(SaveStage::Begin).map_err(refused("write"))?;
        let encoded = format::Encoded::new(progress, arenas)?;
        atomic::write(new, |writer| {
            writer.write_all(encoded.header())?;
            hook(SaveStage::HeaderWritten)?;
            encoded.write_arenas(writer)?;
            hook(SaveStage::Written)
        })?;
        hook(SaveStage::Synced).map_err(refused("read back"))?;
        let found = File::open(new)
            .and_then(format::digest)
            .map_err(refused("read back"))?;
        if found != encoded.digest() {
            let cure = "the disk does not keep what it is given; use another one with --out";
            return Err(TrainError::state(
                new,
                "what was read back is not what was written",
                cure,
            ));
        }
        hook(SaveStage::Verified).map_err(refused("rename into place"))
    }

    /// The newest state that verifies, moved to its place as the current one; `None` where there are no state files.
    ///
    /// # Errors
    /// Every state file is damaged, with what is wrong with each.
    pub(crate) fn load(&self) -> Result<Option<Loaded>, TrainError> {
        let mut best: Option<(SavedState, PathBuf)> = None;
        let mut warnings = Vec::new();
        for name in [CURRENT, NEW, PREVIOUS] {
            let path = self.folder.join(name);
            match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => warnings.push(format!("{}: cannot be read: {error}", path.display())),
                Ok(bytes) => match SavedState::decode(&bytes) {
                    Err(what) => warnings.push(format!("{}: {what}", path.display())),
                    Ok(state) => {
                        if best
                            .as_ref()
                            .is_none_or(|(b, _)| state.progress.generation > b.progress.generation)
                        {
                            best = Some((state, path));
                        }
                    }
                },
            }
        }
        let Some((state, path)) = best else {
            if warnings.is_empty() {
                return Ok(None);
            }
            let cure = "the run cannot be resumed; start a new one (best.safetensors and last.safetensors may be usable as --model)";
            return Err(TrainError::state(&self.folder, warnings.join("; "), cure));
        };
        let current = self.path();
        if path != current {
            // A damaged current state must not become the previous one at the next save.
            fs::rename(&path, &current)
                .map_err(|cause| TrainError::io(&current, "rename into place", cause))?;
            sync_folder(&self.folder)?;
        }
        Ok(Some(Loaded { state, warnings }))
    }
}

/// Makes a rename inside `folder` durable. Only Unix can open a folder; elsewhere the rename itself must do.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), TrainError> {
    if cfg!(unix) {
        File::open(folder)
            .and_then(|f| f.sync_all())
            .map_err(|cause| TrainError::io(folder, "sync", cause))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
