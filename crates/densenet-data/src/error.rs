//! What can be wrong with data, said in one line: where, what, and how to put it right.

use std::fmt;
use std::path::Path;

/// Which of the program's promises a [`DataError`] concerns; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataErrorKind {
    /// The data itself cannot be used: a broken image, a class without images, labels that do not fit.
    Data,
    /// The operating system refused: no such file, no permission, a failing disk.
    Io,
    /// The data may be fine but asks for more memory than the stated limits allow.
    Limit,
    /// What the user asked for contradicts itself, whatever the data: an unknown augmentation, a zero size.
    Config,
}

/// An error about data: the place, what is wrong there, and the cure.
///
/// Its `Display` form is `PLACE: what is wrong — how to fix it`, ready to stand behind `error: `.
/// The place is a file (with a line or record where one is known), a folder, or the name of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataError {
    kind: DataErrorKind,
    place: String,
    what: String,
    cure: String,
}

impl DataError {
    /// The data at `place` cannot be used.
    pub fn data(
        place: impl Into<String>,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) -> DataError {
        DataError::new(DataErrorKind::Data, place, what, cure)
    }

    /// The data at `place` would exceed a limit.
    pub fn limit(
        place: impl Into<String>,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) -> DataError {
        DataError::new(DataErrorKind::Limit, place, what, cure)
    }

    /// The option or field `place` has a value that cannot work.
    pub fn config(
        place: impl Into<String>,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) -> DataError {
        DataError::new(DataErrorKind::Config, place, what, cure)
    }

    /// The operating system's refusal to let us read `path`.
    pub fn io(path: &Path, error: &std::io::Error) -> DataError {
        use std::io::ErrorKind;
        let (what, cure) = match error.kind() {
            ErrorKind::NotFound => (
                "no such file or folder".to_string(),
                "check the spelling of the path",
            ),
            ErrorKind::PermissionDenied => (
                "may not be read (permission denied)".to_string(),
                "give yourself read permission, or leave it out",
            ),
            _ => (
                format!("cannot be read: {error}"),
                "check the disk and the path",
            ),
        };
        DataError::new(DataErrorKind::Io, path.display().to_string(), what, cure)
    }

    /// The operating system's refusal to let us write `path`.
    pub fn write(path: &Path, error: &std::io::Error) -> DataError {
        DataError::new(
            DataErrorKind::Io,
            path.display().to_string(),
            format!("cannot be written: {error}"),
            "check that the folder exists, is writable and has room",
        )
    }

    fn new(
        kind: DataErrorKind,
        place: impl Into<String>,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) -> DataError {
        DataError {
            kind,
            place: place.into(),
            what: what.into(),
            cure: cure.into(),
        }
    }

    /// The same error with `place` for its place, where it has none yet: what is said of a sample's voxels by those who do
    /// not know its file.
    pub fn at(self, place: &str) -> DataError {
        if self.place.is_empty() {
            DataError {
                place: place.to_string(),
                ..self
            }
        } else {
            self
        }
    }

    /// The kind of error.
    pub fn kind(&self) -> DataErrorKind {
        self.kind
    }

    /// The file, folder or option concerned.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// What is wrong there.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What to do about it.
    pub fn cure(&self) -> &str {
        &self.cure
    }

    /// The process exit code of the command line's contract: 2 config, 3 data, 5 input/output, 7 limit.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            DataErrorKind::Config => 2,
            DataErrorKind::Data => 3,
            DataErrorKind::Io => 5,
            DataErrorKind::Limit => 7,
        }
    }
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line, whatever a file name or a decoder's message contains.
        let line = format!("{}: {} — {}", self.place, self.what, self.cure);
        f.write_str(&line.replace(['\n', '\r'], " "))
    }
}

impl std::error::Error for DataError {}

/// `candidate` among `known` closest to `found`, phrased for the end of a sentence, or nothing.
pub(crate) fn did_you_mean<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    densenet_spec::closest(found, known)
        .map(|name| format!("did you mean `{name}`? "))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_with_place_fault_and_cure() {
        let error = DataError::data("a\nb.png", "is empty", "remove it");
        assert_eq!(error.to_string(), "a b.png: is empty — remove it");
        assert_eq!(error.exit_code(), 3);
        assert_eq!(DataError::limit("", "", "").exit_code(), 7);
        assert_eq!(DataError::config("", "", "").exit_code(), 2);
        let missing = DataError::io(
            Path::new("x"),
            &std::io::Error::from(std::io::ErrorKind::NotFound),
        );
        assert_eq!(missing.exit_code(), 5);
        assert_eq!(
            missing.to_string(),
            "x: no such file or folder — check the spelling of the path"
        );
    }

    #[test]
    fn suggestions_are_close_or_absent() {
        assert_eq!(
            did_you_mean("hflp", ["hflip", "vflip"]),
            "did you mean `hflip`? "
        );
        assert_eq!(did_you_mean("banana", ["hflip", "vflip"]), "");
    }
}
