//! Names of the files.

use std::{
    cell::RefCell,
    collections::HashSet,
    path::{Path, PathBuf},
};

/// Names in one folder that are not taken.
pub struct Names {
    folder: PathBuf,
    taken: RefCell<HashSet<String>>,
}

/// A name without its ending.
pub struct Stem(PathBuf);

impl Stem {
    /// The file of this name with an ending.
    pub fn with_ending(&self, ending: &str) -> PathBuf {
        let mut path = self.0.clone().into_os_string();
        path.push(".");
        path.push(ending);
        path.into()
    }
}

/// Letters of a class's name that a file's name keeps.
const MOST: usize = 40;

impl Names {
    pub fn new(folder: &Path) -> Self {
        Names {
            folder: folder.to_path_buf(),
            taken: RefCell::new(HashSet::new()),
        }
    }

    /// `photo-tabby_cat-cam` for `photo.png`; a second one of the same name gets `-2`.
    pub fn stem(&self, path: &Path, class: &str, method: &str) -> Stem {
        // `.` and `..` have no name of their own.
        let real = path.canonicalize().unwrap_or_default();
        let name = path.file_name().or(real.file_name()).unwrap_or_default();
        let name = name.to_string_lossy();
        let base = match path.is_dir() {
            true => &name,
            false => without_ending(&name),
        };
        let safe = |c: char| {
            let keeps = c.is_alphanumeric() || c == '-' || c == '_' || c == '.';
            if keeps { c } else { '_' }
        };
        let class: String = class.chars().take(MOST).map(safe).collect();
        let base: String = base.chars().map(safe).collect();
        let first = format!("{base}-{class}-{method}");
        let mut taken = self.taken.borrow_mut();
        let mut stem = first.clone();
        let mut number = 2;
        while !taken.insert(stem.to_lowercase()) {
            stem = format!("{first}-{number}");
            number += 1;
        }
        Stem(self.folder.join(stem))
    }
}

/// `scan` for `scan.nii.gz` and `photo.v2` for `photo.v2.png`.
fn without_ending(name: &str) -> &str {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    match name.rsplit_once('.') {
        Some((base, _)) if !base.is_empty() => base,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_file_class_and_method() {
        let names = Names::new(Path::new("maps"));
        let name = |path: &str, class: &str| {
            let stem = names.stem(Path::new(path), class, "cam");
            stem.with_ending("png").display().to_string()
        };
        assert_eq!(
            name("a/photo.png", "tabby cat"),
            "maps/photo-tabby_cat-cam.png"
        );
        assert_eq!(
            name("b/photo.jpg", "tabby cat"),
            "maps/photo-tabby_cat-cam-2.png"
        );
        assert_eq!(name("scan.v2.nii.gz", "../x"), "maps/scan.v2-.._x-cam.png");
        assert_eq!(name(".hidden", "7"), "maps/.hidden-7-cam.png");
    }
}
