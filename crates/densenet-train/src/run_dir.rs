//! The folder of one run: `runs/<name>-N/`.
//!
//! | file | content |
//! |---|---|
//! | `config.toml` | every option as resolved; `--config` takes it |
//! | `metrics.csv` | one line per epoch |
//! | `timing.csv` | how long each epoch took |
//! | `predictions.csv`, `summary.json`, `report.html` | what to read; see [`crate::records`] |
//! | `best.safetensors`, `last.safetensors` | models |
//! | `state.safetensors`, `state.previous.safetensors` | what resuming needs |
//! | `run.lock` | held while a process trains here; names it |

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use crate::{
    checkpoint::sync_folder,
    error::TrainError,
    weights::{Model, atomic},
};

/// A run's folder, locked for as long as this lives. The system drops the lock with the process, however it ends.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    lock: File,
}

impl RunDir {
    /// Makes `out/name-N/` with the first N above all that exist, and proves that it can be written to.
    ///
    /// # Errors
    /// `Config` for a name that is no file name, `Io` where the system refuses.
    pub(crate) fn create(out: &Path, name: &str) -> Result<Self, TrainError> {
        if name.is_empty()
            || name.starts_with('.')
            || name
                .chars()
                .any(|c| c == '/' || c == '\\' || c.is_control())
        {
            let what = format!("`{}` cannot name a folder", name.escape_debug());
            return Err(TrainError::config(
                "--name",
                what,
                "use letters, digits, - and _",
            ));
        }
        fs::create_dir_all(out).map_err(|cause| TrainError::io(out, "create the folder", cause))?;
        let mut number = last_number(out, name)? + 1;
        loop {
            let path = out.join(format!("{name}-{number}"));
            match fs::create_dir(&path) {
                Ok(()) => {
                    sync_folder(out)?;
                    return RunDir::lock(path);
                }
                // Another process was quicker.
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(cause) => return Err(TrainError::io(&path, "create the folder", cause)),
            }
        }
    }

    /// Takes an existing run's folder and removes what killed saves left in it.
    ///
    /// # Errors
    /// `State` where it is no run's folder, `Locked` where another process trains in it.
    pub(crate) fn open(path: &Path) -> Result<Self, TrainError> {
        if !path.join("config.toml").is_file() {
            let what = if path.is_dir() {
                "this folder holds no run (no config.toml)"
            } else {
                "there is no such folder"
            };
            let cure = "give the folder of a run, such as runs/digits-1";
            return Err(TrainError::config(
                format!("--resume {}", path.display()),
                what,
                cure,
            ));
        }
        let dir = RunDir::lock(path.to_path_buf())?;
        remove_orphans(path)?;
        Ok(dir)
    }

    fn lock(path: PathBuf) -> Result<Self, TrainError> {
        let file = path.join("run.lock");
        let refused = |action| {
            let file = file.clone();
            move |cause| TrainError::io(&file, action, cause)
        };
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&file)
            .map_err(refused("create"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // A holder that cannot be read is still a holder.
                let _ = lock.take(200).read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() {
                    "unnamed".into()
                } else {
                    holder.trim().to_string()
                };
                return Err(TrainError::Locked { path, holder });
            }
            Err(TryLockError::Error(cause)) => return Err(refused("lock")(cause)),
        }
        lock.set_len(0).map_err(refused("write"))?;
        lock.rewind().map_err(refused("write"))?;
        writeln!(lock, "process {}", std::process::id()).map_err(refused("write"))?;
        lock.sync_all().map_err(refused("sync"))?;
        Ok(RunDir { path, lock })
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// `file` within the folder.
    pub(crate) fn file(&self, file: &str) -> PathBuf {
        self.path.join(file)
    }

    /// Replaces a text file, atomically.
    pub(crate) fn write_text(&self, file: &str, text: &str) -> Result<(), TrainError> {
        Ok(atomic::write(&self.file(file), |w| {
            w.write_all(text.as_bytes())
        })?)
    }

    /// Replaces a model file: written beside it, read back, compared and only then renamed over it.
    pub(crate) fn write_model(&self, file: &str, model: &Model) -> Result<(), TrainError> {
        let (path, new) = (self.file(file), self.file(&format!("new.{file}")));
        let result = model.save(&new).map_err(TrainError::from).and_then(|()| {
            // The file's own digest covers the rest; numbers within its JSON may be read back rounded.
            let found = Model::load(&new)?;
            if (&found.config, &found.state, &found.classes)
                != (&model.config, &model.state, &model.classes)
            {
                let cure = "the disk does not keep what it is given; use another one with --out";
                return Err(TrainError::state(
                    &new,
                    "what was read back is not what was written",
                    cure,
                ));
            }
            fs::rename(&new, &path)
                .map_err(|cause| TrainError::io(&path, "rename into place", cause))?;
            sync_folder(&self.path)
        });
        if result.is_err() {
            let _ = fs::remove_file(&new);
        }
        result
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // Said aloud, because a child process that is just being started may hold a copy of the handle.
        let _ = self.lock.unlock();
    }
}

/// The highest N of `name-N` in `out`; 0 where there is none.
fn last_number(out: &Path, name: &str) -> Result<u64, TrainError> {
    let entries =
        fs::read_dir(out).map_err(|cause| TrainError::io(out, "list the folder", cause))?;
    Ok(entries
        .flatten()
        .filter_map(|entry| {
            let number = entry
                .file_name()
                .to_str()?
                .strip_prefix(name)?
                .strip_prefix('-')?
                .parse()
                .ok()?;
            Some(number).filter(|&n: &u64| n < u64::MAX)
        })
        .max()
        .unwrap_or(0))
}

/// Removes the temporary files of saves that were killed: names that only this program gives, in a folder that only we
/// hold.
pub(crate) fn remove_orphans(folder: &Path) -> Result<(), TrainError> {
    const OURS: [&str; 8] = [
        "state",
        "best",
        "last",
        "config",
        "metrics",
        "predictions",
        "summary",
        "report",
    ];
    let entries =
        fs::read_dir(folder).map_err(|cause| TrainError::io(folder, "list the folder", cause))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        // `.NAME.PID-N.tmp`, where NAME may itself be `new.best.safetensors`.
        let temporary = name.strip_prefix('.').filter(|n| n.ends_with(".tmp"));
        let unfinished = temporary
            .or(Some(name))
            .and_then(|n| n.strip_prefix("new."))
            .or(temporary);
        if unfinished.is_some_and(|n| {
            OURS.iter()
                .any(|o| n.strip_prefix(o).is_some_and(|rest| rest.starts_with('.')))
        }) {
            fs::remove_file(entry.path())
                .map_err(|cause| TrainError::io(&entry.path(), "remove", cause))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_nothing_is_reused() {
        let out = tempfile::tempdir().unwrap();
        let out = out.path().join("deep/runs");
        let first = RunDir::create(&out, "digits").unwrap();
        assert_eq!(first.path(), out.join("digits-1"));
        fs::create_dir(out.join("digits-7")).unwrap();
        fs::create_dir(out.join("digits-x")).unwrap();
        fs::create_dir(out.join("other-9")).unwrap();
        assert_eq!(
            RunDir::create(&out, "digits").unwrap().path(),
            out.join("digits-8")
        );
        for bad in ["", "a/b", "..", ".x", "a\nb"] {
            let error = RunDir::create(&out, bad).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad}");
            assert!(error.to_string().starts_with("--name: "), "{error}");
        }
    }

    #[test]
    fn a_held_folder_is_refused_with_its_holder() {
        let out = tempfile::tempdir().unwrap();
        let held = RunDir::create(out.path(), "x").unwrap();
        held.write_text("config.toml", "").unwrap();
        let error = RunDir::open(held.path()).unwrap_err();
        assert_eq!(error.exit_code(), 75);
        assert!(
            error
                .to_string()
                .contains(&format!("process {}", std::process::id())),
            "{error}"
        );
        let path = held.path().to_path_buf();
        drop(held);
        RunDir::open(&path).unwrap();
    }

    #[test]
    fn leftovers_go_and_everything_else_stays() {
        let out = tempfile::tempdir().unwrap();
        let dir = RunDir::create(out.path(), "x").unwrap();
        let keep = [
            "config.toml",
            "best.safetensors",
            ".notes.tmp",
            "new.txt",
            "state.new.safetensors",
            "mine.tmp",
        ];
        let gone = [
            ".state.new.safetensors.12-0.tmp",
            ".metrics.csv.7-3.tmp",
            "new.best.safetensors",
            ".new.last.safetensors.1-1.tmp",
            ".report.html.1-1.tmp",
        ];
        for name in keep.iter().chain(&gone) {
            fs::write(dir.file(name), b"x").unwrap();
        }
        let path = dir.path().to_path_buf();
        drop(dir);
        let dir = RunDir::open(&path).unwrap();
        assert!(keep.iter().all(|n| dir.file(n).exists()));
        assert!(gone.iter().all(|n| !dir.file(n).exists()));
    }

    #[test]
    fn what_is_no_run_is_refused() {
        let out = tempfile::tempdir().unwrap();
        let error = RunDir::open(out.path()).unwrap_err();
        assert!(
            error.to_string().contains("this folder holds no run"),
            "{error}"
        );
        let error = RunDir::open(&out.path().join("nowhere")).unwrap_err();
        assert!(
            error.to_string().contains("there is no such folder"),
            "{error}"
        );
        assert_eq!(error.exit_code(), 2);
    }
}
