//! Tensors stored beside the model file.

use std::{
    collections::HashSet,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Component, Path, PathBuf},
};

use bytes::Bytes;

use super::open;
use crate::{
    error::{OnnxError, Problem, printable},
    proto::TensorProto,
};

// What to do about tensors that lie where they must not, are not there, or are not as the model says.
const OUTSIDE: &str = "only files inside the model's folder are read; put the data beside the model, or save the model \
                       with its data inside";
const MISSING: &str = "put it back beside the model, or save the model with its data inside";
const DAMAGED: &str = "the model or the file beside it is damaged, or they do not belong together; get both again from \
                       their source";

/// The model's folder, beyond which nothing is read.
///
/// A tensor names its file by a path relative to the model's folder. A path that is absolute or climbs (`..`) is refused,
/// and so is one that leads out of the folder through links: what is opened is the path without links, which lies in the
/// folder without links.
pub(crate) struct Folder {
    root: Option<PathBuf>,
    /// The file that the last tensor lay in: PyTorch stores all in one.
    last: Option<(String, File, u64)>,
    /// The files that were opened.
    files: HashSet<PathBuf>,
    /// Their length together.
    length: u64,
}

impl Folder {
    /// The folder of the model file at `path`.
    pub(crate) fn of(path: &Path) -> Self {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        Folder {
            root: Some(parent.to_path_buf()),
            last: None,
            files: HashSet::new(),
            length: 0,
        }
    }

    /// No folder: a tensor outside the model file is refused.
    pub(crate) fn none() -> Self {
        Folder {
            root: None,
            last: None,
            files: HashSet::new(),
            length: 0,
        }
    }

    /// Bytes of all files that were opened together.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The `length` bytes of a tensor that is stored outside the model file.
    pub(crate) fn bytes(&mut self, tensor: &TensorProto, length: u64) -> Result<Bytes, OnnxError> {
        let entry = |key: &str| {
            let pair = tensor.external_data.iter().find(|pair| pair.key() == key);
            pair.map(|pair| pair.value())
        };
        let location = entry("location").unwrap_or_default();
        let refuse = |why: String, cure| {
            OnnxError::from(Problem::ExternalData {
                tensor: printable(tensor.name()),
                location: printable(location),
                why,
                cure,
            })
        };
        let number = |key: &str, otherwise: u64| match entry(key) {
            None => Ok(otherwise),
            Some(text) => text
                .parse()
                .map_err(|_| refuse(format!("its {key} is no number"), DAMAGED)),
        };
        let (offset, stored) = (number("offset", 0)?, number("length", length)?);
        if stored != length {
            let why = format!("which stores {stored} bytes for its {length}");
            return Err(refuse(why, DAMAGED));
        }
        if self.last.as_ref().is_none_or(|(name, ..)| name != location) {
            self.open(location, &refuse)?;
        }
        let Some((_, file, size)) = &mut self.last else {
            return Err(refuse("which is not open".to_string(), DAMAGED));
        };
        if offset.checked_add(length).is_none_or(|end| end > *size) {
            let why = format!("which ends before its {length} bytes at {offset}");
            return Err(refuse(why, DAMAGED));
        }
        let length = usize::try_from(length);
        let length = length.map_err(|_| refuse("which is too long".to_string(), DAMAGED))?;
        let mut content = vec![0; length];
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_exact(&mut content))
            .map_err(|cause| OnnxError::io("read the tensors beside it", cause))?;
        Ok(content.into())
    }

    fn open(
        &mut self,
        location: &str,
        refuse: &dyn Fn(String, &'static str) -> OnnxError,
    ) -> Result<(), OnnxError> {
        let Some(root) = &self.root else {
            return Err(refuse("outside the file".to_string(), OUTSIDE));
        };
        let relative = Path::new(location);
        let inside = !location.is_empty()
            && relative
                .components()
                .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside {
            let why = "which is no path inside the model's folder".to_string();
            return Err(refuse(why, OUTSIDE));
        }
        let missing =
            |cause: std::io::Error| refuse(format!("which cannot be opened ({cause})"), MISSING);
        let root = root.canonicalize().map_err(missing)?;
        let path = root.join(relative).canonicalize().map_err(missing)?;
        if !path.starts_with(&root) {
            return Err(refuse(
                "a link out of the model's folder".to_string(),
                OUTSIDE,
            ));
        }
        let (file, size) = open(&path).map_err(|error| error.at(&path))?;
        if self.files.insert(path) {
            self.length += size;
        }
        self.last = Some((location.to_string(), file, size));
        Ok(())
    }
}
