//! Finding images and volumes.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use densenet_data::{
    DataError,
    decode::has_image_extension,
    natural_cmp,
    volume::{has_volume_extension, is_series, parts},
};

/// A file to classify, or a path that leads to none.
pub type Found = Result<PathBuf, (PathBuf, DataError)>;

/// Files as they were named, and the images in folders and their subfolders in natural order.
///
/// A named file is taken whatever it is called; in folders, only files with an image's extension count and hidden ones
/// do not. Of `volumes` likewise; a folder with DICOM files directly in it is one volume, and so are files joined by
/// semicolons, its channels.
pub fn find(paths: &[PathBuf], volumes: bool) -> Vec<Found> {
    let mut found = Vec::new();
    for path in paths {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                let before = found.len();
                search(path, volumes, &mut HashSet::new(), &mut found);
                if found.len() == before {
                    let place = path.display().to_string();
                    let (what, cure) = if volumes {
                        (
                            "no volume in this folder",
                            "give a folder with NIfTI, NRRD, MetaImage, .npy or DICOM files",
                        )
                    } else {
                        (
                            "no image in this folder",
                            "give a folder with .png, .jpg, .webp, .bmp or .tiff files",
                        )
                    };
                    found.push(Err((path.clone(), DataError::data(place, what, cure))));
                }
            }
            Ok(_) => found.push(Ok(path.clone())),
            // The channels of one volume; reading says which of them is missing.
            Err(_) if volumes && parts(path).len() > 1 => found.push(Ok(path.clone())),
            Err(error) => found.push(Err((path.clone(), DataError::io(path, &error)))),
        }
    }
    found
}

/// `visited` holds the real paths of the folders on the way, so that a link in a circle ends.
fn search(folder: &Path, volumes: bool, visited: &mut HashSet<PathBuf>, found: &mut Vec<Found>) {
    let failed = |error: &std::io::Error| Err((folder.to_path_buf(), DataError::io(folder, error)));
    match folder.canonicalize() {
        Ok(real) => {
            if !visited.insert(real) {
                return;
            }
        }
        Err(error) => return found.push(failed(&error)),
    }
    if volumes {
        match is_series(folder) {
            Ok(true) => return found.push(Ok(folder.to_path_buf())),
            Ok(false) => {}
            Err(error) => return found.push(Err((folder.to_path_buf(), error))),
        }
    }
    let wanted = |path: &Path| {
        if volumes {
            has_volume_extension(path)
        } else {
            has_image_extension(path)
        }
    };
    let entries = match fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(entries) => entries,
        Err(error) => return found.push(failed(&error)),
    };
    let name = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut entries: Vec<_> = entries
        .into_iter()
        .filter(|entry| !name(entry).starts_with('.'))
        .collect();
    entries.sort_by(|a, b| natural_cmp(&name(a), &name(b)));
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            search(&path, volumes, visited, found);
        } else if wanted(&path) {
            found.push(Ok(path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        find(&[folder.to_path_buf()], false)
            .into_iter()
            .map(|found| match found {
                Ok(path) => path.strip_prefix(folder).unwrap().display().to_string(),
                Err((_, error)) => error.what().to_string(),
            })
            .collect()
    }

    #[test]
    fn folders_are_searched_in_natural_order() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        for name in ["a10.png", "a2.JPG", "note.txt", ".hidden.png", "sub/x.bmp"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(names(folder.path()), ["a2.JPG", "a10.png", "sub/x.bmp"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_in_a_circle_end() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.png"), "").unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
        assert_eq!(names(folder.path()), ["a.png"]);
    }

    #[test]
    fn nothing_found_is_said() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(names(folder.path()), ["no image in this folder"]);
        let absent = find(&[folder.path().join("absent.png")], false);
        assert!(absent[0].is_err());
    }
}
