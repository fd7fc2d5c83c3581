//! Image folders: `DATA/<split>/<class>/*` or `DATA/<class>/*`.
//!
//! A class folder may have folders within; all pictures below it belong to the class. Names beginning with a dot,
//! `__MACOSX` and files that do not end like images or volumes are left out, the latter with a note. Links are followed; a
//! link that leads back to a folder above it is left out.
//!
//! Volumes lie in class folders as files (NIfTI, NumPy) or as folders that each hold the slices of one DICOM series. A
//! data set has either pictures or volumes. The patients that DICOM names are groups of their own.

use std::fs;
use std::path::{Path, PathBuf};

use super::assemble::{Draft, Found, assemble};
use super::{Dataset, Format, OpenOptions, Source};
use crate::decode::has_image_extension;
use crate::error::DataError;
use crate::natural::natural_cmp;
use crate::split::Split;
use crate::volume;

/// How many folders deep a class may be.
const MAX_DEPTH: usize = 16;
/// How many entries a folder tree may have.
const MAX_FILES: usize = 1 << 26;

/// What lies directly in a folder, hidden names left out, in natural order.
pub(super) struct Listing {
    pub folders: Vec<Entry>,
    pub files: Vec<Entry>,
}

/// One name in a folder.
pub(super) struct Entry {
    pub path: PathBuf,
    /// The name as text; bytes that are not UTF-8 are replaced.
    pub name: String,
}

impl Listing {
    pub(super) fn read(folder: &Path) -> Result<Listing, DataError> {
        let mut listing = Listing {
            folders: Vec::new(),
            files: Vec::new(),
        };
        for entry in fs::read_dir(folder).map_err(|e| DataError::io(folder, &e))? {
            let entry = entry.map_err(|e| DataError::io(folder, &e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || name == "__MACOSX" {
                continue;
            }
            let path = entry.path();
            // Follows links; one that leads nowhere is kept as a file, for the check to report.
            let is_folder = fs::metadata(&path).is_ok_and(|m| m.is_dir());
            let list = if is_folder {
                &mut listing.folders
            } else {
                &mut listing.files
            };
            list.push(Entry { path, name });
        }
        let order =
            |a: &Entry, b: &Entry| natural_cmp(&a.name, &b.name).then_with(|| a.path.cmp(&b.path));
        listing.folders.sort_by(order);
        listing.files.sort_by(order);
        Ok(listing)
    }

    /// What lies in the folder itself and would need a class: `images`, `volumes`, or nothing.
    fn loose(&self) -> Option<&'static str> {
        let any = |is: fn(&Path) -> bool| self.files.iter().any(|f| is(&f.path));
        match (any(volume::has_volume_extension), any(has_image_extension)) {
            (true, _) => Some("volumes"),
            (false, true) => Some("images"),
            (false, false) => None,
        }
    }
}

/// Why a folder without folders is no data set, by what lies in it instead.
fn without_classes(place: String, listing: &Listing) -> Result<DataError, DataError> {
    let Some(first) = listing.files.first() else {
        return Ok(DataError::data(
            place,
            "the folder is empty: no class folders, no images, no volumes",
            "put images or volumes into it, one folder per class",
        ));
    };
    if volume::is_dicom_file(&first.path)? {
        return Ok(DataError::data(
            place,
            "DICOM files lie directly in it, without classes",
            "make a folder for each class, and in it a folder for each scan's slices",
        ));
    }
    if let Some(what) = listing.loose() {
        return Ok(DataError::data(
            place,
            format!("{what} lie directly in it, without classes"),
            format!(
                "put each class's {what} into a folder of its own, or list them with their labels in a .csv file"
            ),
        ));
    }
    let packed = |f: &&Entry| f.name.ends_with(".csv") || f.name.ends_with(".npz");
    if let Some(file) = listing.files.iter().find(packed) {
        return Ok(DataError::data(
            place,
            "no class folders",
            format!("did you mean `{}`?", file.path.display()),
        ));
    }
    Ok(DataError::data(
        place,
        format!(
            "no class folders, and its {} files, like `{}`, do not end like images or volumes",
            listing.files.len(),
            first.name
        ),
        "put images or volumes into it, one folder per class",
    ))
}

pub(super) fn open(
    path: &Path,
    listing: &Listing,
    options: &OpenOptions,
) -> Result<Dataset, DataError> {
    let place = path.display().to_string();
    if let Some(pickle) = listing
        .files
        .iter()
        .find(|f| f.name.starts_with("data_batch_"))
    {
        return Err(DataError::data(
            pickle.path.display().to_string(),
            "CIFAR's Python version, a pickle, which can run code when it is read",
            "use the binary version (data_batch_1.bin, …)",
        ));
    }
    if listing.folders.is_empty() {
        return Err(without_classes(place, listing)?);
    }
    let mut walk = Walk {
        classes_known: options.classes.is_some(),
        ..Walk::default()
    };
    let split_folders: Vec<(&Entry, Split)> = listing
        .folders
        .iter()
        .filter_map(|f| Split::from_name(&f.name).map(|s| (f, s)))
        .collect();
    let has_train = split_folders
        .iter()
        .any(|(_, split)| *split == Split::Train);
    if split_folders.is_empty() {
        for class in &listing.folders {
            walk.class(class, None)?;
        }
    } else if !has_train && split_folders.len() < listing.folders.len() {
        let named = split_folders.first().map_or("", |(f, _)| f.name.as_str());
        return Err(DataError::data(
            place,
            format!(
                "`{named}` looks like a split, but there are class folders beside it and no `train`"
            ),
            "rename it if it is a class, or move the other folders into `train`",
        ));
    } else {
        for (folder, split) in &split_folders {
            walk.split(folder, *split)?;
        }
        let others: Vec<&str> = listing
            .folders
            .iter()
            .filter(|f| Split::from_name(&f.name).is_none())
            .map(|f| f.name.as_str())
            .collect();
        if !others.is_empty() {
            walk.notes.push(format!(
                "{place}: left out, beside the splits: {}",
                others.join(", ")
            ));
        }
    }
    walk.note_loose(path, listing);
    if walk.drafts.is_empty() {
        let cure = match listing.folders.as_slice() {
            [only] => format!("did you mean `{}`?", only.path.display()),
            _ => "put images (PNG, JPEG, WebP, BMP, TIFF) or volumes (NIfTI, NRRD, MetaImage, .npy, folders of DICOM \
                  slices) into its class folders"
                .to_string(),
        };
        return Err(DataError::data(
            place,
            "no images or volumes in any class folder",
            cure,
        ));
    }
    if walk.skipped > 0 {
        let examples = walk.skipped_examples.join(", ");
        let more = if walk.skipped > walk.skipped_examples.len() {
            ", …"
        } else {
            ""
        };
        walk.notes.push(format!(
            "{} files do not end like images or volumes and are left out: {examples}{more}",
            walk.skipped
        ));
    }
    let volumes = walk
        .drafts
        .iter()
        .filter(|d| matches!(d.source, Source::Volume(_)));
    let (volumes, all) = (volumes.count(), walk.drafts.len());
    if volumes > 0 && volumes < all {
        return Err(DataError::data(
            place,
            format!("{volumes} volumes and {} pictures", all - volumes),
            "keep volumes and pictures in data sets of their own",
        ));
    }
    let found = Found {
        name: place,
        format: if volumes > 0 {
            Format::VolumeFolder
        } else {
            Format::ImageFolder
        },
        classes: walk.classes,
        ordered: false,
        drafts: walk.drafts,
        stores: Vec::new(),
        notes: walk.notes,
    };
    assemble(found, options)
}

/// The walk through the folders of one data set.
#[derive(Default)]
struct Walk {
    classes: Vec<String>,
    drafts: Vec<Draft>,
    notes: Vec<String>,
    skipped: usize,
    skipped_examples: Vec<String>,
    classes_known: bool,
}

impl Walk {
    /// Says that files beside the class folders count for nothing.
    fn note_loose(&mut self, folder: &Path, listing: &Listing) {
        if let Some(what) = listing.loose() {
            self.notes.push(format!(
                "{}: {what} directly in it have no class and are left out",
                folder.display()
            ));
        }
    }

    fn split(&mut self, folder: &Entry, split: Split) -> Result<(), DataError> {
        let listing = Listing::read(&folder.path)?;
        self.note_loose(&folder.path, &listing);
        if split == Split::Train && listing.folders.is_empty() {
            return Err(DataError::data(
                folder.path.display().to_string(),
                "no class folders",
                "put each class's training images into a folder of its own",
            ));
        }
        for class in &listing.folders {
            self.class(class, Some(split))?;
        }
        Ok(())
    }

    fn class(&mut self, folder: &Entry, split: Option<Split>) -> Result<(), DataError> {
        if folder.path.file_name().and_then(|n| n.to_str()).is_none() {
            return Err(DataError::data(
                folder.path.display().to_string(),
                "the class folder's name is not UTF-8",
                "rename it",
            ));
        }
        let before = self.drafts.len();
        let class = match self.classes.iter().position(|c| *c == folder.name) {
            Some(known) => known,
            None => {
                self.classes.push(folder.name.clone());
                self.classes.len() - 1
            }
        };
        self.pictures(&folder.path, class, split, &mut Vec::new())?;
        if self.drafts.len() > before || self.classes_known {
            return Ok(());
        }
        if matches!(split, None | Some(Split::Train)) {
            return Err(DataError::data(
                folder.path.display().to_string(),
                "the class folder has no images or volumes",
                "put images (PNG, JPEG, WebP, BMP, TIFF) or volumes (NIfTI, NRRD, MetaImage, .npy, folders of DICOM slices) \
                 into it, or remove it",
            ));
        }
        self.notes
            .push(format!("{}: no images", folder.path.display()));
        Ok(())
    }

    fn pictures(
        &mut self,
        folder: &Path,
        class: usize,
        split: Option<Split>,
        above: &mut Vec<PathBuf>,
    ) -> Result<(), DataError> {
        let real = fs::canonicalize(folder).map_err(|e| DataError::io(folder, &e))?;
        if above.contains(&real) {
            self.notes.push(format!(
                "{}: a link back to a folder above it, left out",
                folder.display()
            ));
            return Ok(());
        }
        if above.len() >= MAX_DEPTH {
            return Err(DataError::limit(
                folder.display().to_string(),
                format!("folders more than {MAX_DEPTH} deep"),
                "flatten the folders",
            ));
        }
        above.push(real);
        let listing = Listing::read(folder)?;
        let mut loose = listing
            .files
            .iter()
            .filter(|f| !has_image_extension(&f.path));
        let series = match loose.next() {
            Some(first) => volume::is_dicom_file(&first.path)? || volume::is_series(folder)?,
            None => false,
        };
        if series {
            if above.len() == 1 {
                return Err(DataError::data(
                    folder.display().to_string(),
                    "DICOM files directly in the class folder: where one scan ends and the next begins is unknown",
                    "put the slices of each scan into a folder of their own",
                ));
            }
            self.drafts.push(Draft {
                group: volume::patient(folder),
                source: Source::Volume(vec![folder.to_path_buf()]),
                class,
                split,
            });
            above.pop();
            return Ok(());
        }
        for file in listing.files {
            if volume::has_volume_extension(&file.path) {
                self.drafts.push(Draft {
                    source: Source::Volume(vec![file.path]),
                    class,
                    split,
                    group: None,
                });
            } else if has_image_extension(&file.path) {
                self.drafts.push(Draft {
                    source: Source::File(file.path),
                    class,
                    split,
                    group: None,
                });
            } else {
                self.skipped += 1;
                if self.skipped_examples.len() < 3 {
                    self.skipped_examples.push(file.path.display().to_string());
                }
            }
            if self.drafts.len() + self.skipped > MAX_FILES {
                return Err(DataError::limit(
                    folder.display().to_string(),
                    format!("more than {MAX_FILES} files"),
                    "divide the data set",
                ));
            }
        }
        for inner in listing.folders {
            self.pictures(&inner.path, class, split, above)?;
        }
        above.pop();
        Ok(())
    }
}
