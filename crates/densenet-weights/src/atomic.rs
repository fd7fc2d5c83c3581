//! Files that are either the old one or the whole new one, whenever the machine stops.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::error::WeightsError;

/// Writes `path` through `fill`: into a temporary file beside it, which is synced, renamed over `path`, and the folder
/// synced.
///
/// A reader sees the old file or the whole new one, never a part. If anything fails, the temporary file is removed and
/// an existing `path` is untouched; a failed sync counts as a failed write and is not tried again (the system may have
/// dropped the data). The temporary name is `.NAME.PID-N.tmp`; only the one made by this call is ever removed.
///
/// A link is followed: what it leads to is replaced, and the link stays. What is no file, such as `/dev/stdout` or a pipe,
/// is written into as it is, for nothing can be put in its place.
///
/// ```
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("note.txt");
/// densenet_weights::atomic::write(&path, |w| w.write_all(b"whole or not at all")).unwrap();
/// assert_eq!(std::fs::read(&path).unwrap(), b"whole or not at all");
/// ```
///
/// # Errors
/// Whatever `fill` or the system reports, with the path and the step that failed.
pub fn write(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), WeightsError> {
    let known = std::fs::metadata(path).ok();
    if known.is_some_and(|known| !known.is_file() && !known.is_dir()) {
        return write_into(path, fill);
    }
    let real = std::fs::read_link(path)
        .and_then(|_| std::fs::canonicalize(path))
        .unwrap_or_else(|_| path.to_path_buf());
    let folder = match real.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let Some(name) = real.file_name() else {
        let cause = io::Error::new(io::ErrorKind::InvalidInput, "the path names no file");
        return Err(WeightsError::io(path, "write", cause));
    };
    if path.is_dir() {
        let cause = io::Error::new(io::ErrorKind::IsADirectory, "the path is a folder");
        return Err(WeightsError::io(path, "write", cause));
    }
    let (temporary, file) = create_beside(folder, name)
        .map_err(|cause| WeightsError::io(path, "create a file beside it", cause))?;
    let step = |action: &'static str| move |cause| WeightsError::io(path, action, cause);
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    fill(&mut writer).map_err(step("write"))?;
    let file = writer
        .into_inner()
        .map_err(|error| step("write")(error.into_error()))?;
    file.sync_all().map_err(step("sync to disk"))?;
    drop(file);
    temporary
        .rename_to(&real)
        .map_err(step("rename into place"))?;
    sync_folder(folder).map_err(step("sync the folder"))
}

/// Writes into a device or a pipe.
fn write_into(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), WeightsError> {
    let step = |action: &'static str| move |cause| WeightsError::io(path, action, cause);
    let file = OpenOptions::new().write(true).open(path);
    let mut writer = BufWriter::with_capacity(1 << 20, file.map_err(step("open"))?);
    fill(&mut writer).map_err(step("write"))?;
    writer.flush().map_err(step("write"))
}

/// A temporary file's path; dropping it removes the file unless it was renamed.
struct Temporary {
    path: PathBuf,
    renamed: bool,
}

impl Temporary {
    fn rename_to(mut self, target: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, target)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // Nothing better can be done with a second failure; the first one is being reported.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn create_beside(folder: &Path, name: &std::ffi::OsStr) -> io::Result<(Temporary, File)> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    // A name can only be taken by the remains of a killed process that had the same id: a few tries suffice.
    for _ in 0..1000 {
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let mut temporary_name = std::ffi::OsString::from(".");
        temporary_name.push(name);
        temporary_name.push(format!(".{}-{count}.tmp", process::id()));
        let path = folder.join(temporary_name);
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => {
                return Ok((
                    Temporary {
                        path,
                        renamed: false,
                    },
                    file,
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AlreadyExists,
        "every temporary name is taken",
    ))
}

/// Makes a rename inside `folder` durable. Only Unix can open a folder; elsewhere the rename itself must do.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_the_whole_file_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.bin");
        for content in [&b"first, and longer"[..], b"second"] {
            write(&path, |w| w.write_all(content)).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), content);
        }
        assert_eq!(names(folder.path()), ["weights.bin"]);
    }

    #[test]
    fn a_failure_keeps_the_old_file_and_names_the_cause() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.bin");
        std::fs::write(&path, b"old").unwrap();
        let error = write(&path, |w| {
            w.write_all(b"half")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["weights.bin"]);
        assert_eq!(error.exit_code(), 5);
        let message = error.to_string();
        assert!(message.contains("weights.bin: cannot write"), "{message}");
        assert!(message.contains("nothing was overwritten"), "{message}");
    }

    #[test]
    fn a_panic_while_writing_removes_the_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.bin");
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            write(&path, |_| panic!("the caller's bug"))
        }));
        assert!(result.is_err());
        assert!(names(folder.path()).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (
            folder.path().join("real.bin"),
            folder.path().join("link.bin"),
        );
        std::os::unix::fs::symlink("real.bin", &link).unwrap();
        // Where there is nothing yet, the link is replaced.
        write(&link, |w| w.write_all(b"no target")).unwrap();
        assert!(link.symlink_metadata().unwrap().is_file());
        std::fs::rename(&link, &target).unwrap();
        std::os::unix::fs::symlink("real.bin", &link).unwrap();
        write(&link, |w| w.write_all(b"new")).unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["link.bin", "real.bin"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_is_not_replaced() {
        use std::os::unix::fs::FileTypeExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _listening = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(write(&path, |w| w.write_all(b"x")).is_err());
        assert!(path.symlink_metadata().unwrap().file_type().is_socket());
        assert_eq!(names(folder.path()), ["socket"]);
    }

    #[test]
    fn a_missing_folder_and_a_folder_as_target_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("absent").join("x.bin");
        let error = write(&absent, |w| w.write_all(b"x")).unwrap_err();
        assert!(error.to_string().contains("check the path"), "{error}");
        let error = write(folder.path(), |w| w.write_all(b"x")).unwrap_err();
        assert!(
            error.to_string().contains("name a file, not a folder"),
            "{error}"
        );
        assert_eq!(error.exit_code(), 5);
    }
}
