//! Opening files to read.

use std::{fs::File, io, path::Path};

use crate::error::WeightsError;

/// Opens a regular file and tells its length.
pub(crate) fn open(path: &Path) -> Result<(File, u64), WeightsError> {
    let opening = |cause| WeightsError::io(path, "open", cause);
    let metadata = std::fs::metadata(path).map_err(opening)?;
    if metadata.is_dir() {
        return Err(opening(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    if !metadata.is_file() {
        // A pipe or device has no length to check the content against.
        return Err(opening(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no regular file",
        )));
    }
    let file = File::open(path).map_err(opening)?;
    let length = file.metadata().map_err(opening)?.len();
    Ok((file, length))
}
