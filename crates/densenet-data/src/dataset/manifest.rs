//! A CSV manifest: `path,label[,split][,group]`, one image a line.
//!
//! The first line names the columns, in any order; further columns are left out with a note. Paths are relative to
//! the manifest. Samples of one group (one patient, one slide) never end up in different splits. A manifest either
//! gives a split on every line or on none.
//!
//! A path that ends like a volume, or leads to a folder (a DICOM series), is one. Several files separated by semicolons
//! (`t1.nii.gz;t2.nii.gz;flair.nii.gz`) are the channels of one volume. Where there is no column `group`, the patients that
//! DICOM names are the groups.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::assemble::{Draft, Found, assemble};
use super::{Dataset, Format, OpenOptions, Source};
use crate::decode::read_bounded;
use crate::error::{DataError, did_you_mean};
use crate::split::Split;
use crate::volume::{self, has_volume_extension};

const MAX_BYTES: u64 = 512 << 20;
const COLUMNS: [&str; 4] = ["path", "label", "split", "group"];

pub(super) fn open(path: &Path, options: &OpenOptions) -> Result<Dataset, DataError> {
    let text = read_bounded(path, MAX_BYTES)?;
    let base = path.parent().unwrap_or(Path::new(""));
    let place = path.display().to_string();
    let found = parse(&place, base, &text)?;
    assemble(found, options)
}

/// A picture, or the files of a volume's channels.
fn source(base: &Path, field: &str) -> Source {
    let paths: Vec<PathBuf> = field
        .split(';')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(|name| base.join(name))
        .collect();
    match paths.as_slice() {
        [only] if !has_volume_extension(only) && !only.is_dir() => Source::File(only.clone()),
        _ => Source::Volume(paths),
    }
}

fn parse(place: &str, base: &Path, bytes: &[u8]) -> Result<Found, DataError> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        DataError::data(
            place,
            format!("not UTF-8 text (byte {})", e.valid_up_to()),
            "save it as UTF-8",
        )
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let broken = |e: csv::Error| {
        let at = e
            .position()
            .map_or(String::new(), |p| format!(":{}", p.line()));
        DataError::data(
            format!("{place}{at}"),
            format!("not proper CSV: {e}"),
            "give every line the columns of the first",
        )
    };
    let header = reader.headers().map_err(broken)?.clone();
    let column = |name: &str| header.iter().position(|h| h.eq_ignore_ascii_case(name));
    let required = |name: &str| {
        column(name).ok_or_else(|| {
            let hint = header
                .iter()
                .map(|h| did_you_mean(h, [name]))
                .find(|h| !h.is_empty())
                .unwrap_or_default();
            DataError::data(
                format!("{place}:1"),
                format!(
                    "no column `{name}` among `{}`",
                    header.iter().collect::<Vec<_>>().join(",")
                ),
                format!(
                    "{hint}begin with the line `path,label` (and `split`, `group` if you have them)"
                ),
            )
        })
    };
    let (path_at, label_at) = (required("path")?, required("label")?);
    let (split_at, group_at) = (column("split"), column("group"));
    let mut notes = Vec::new();
    let extra: Vec<&str> = header
        .iter()
        .filter(|h| !COLUMNS.iter().any(|c| h.eq_ignore_ascii_case(c)))
        .collect();
    if !extra.is_empty() {
        notes.push(format!("{place}: columns left out: {}", extra.join(", ")));
    }

    let mut classes: Vec<String> = Vec::new();
    let mut class_of: BTreeMap<String, usize> = BTreeMap::new();
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut group_split: BTreeMap<String, (Split, u64)> = BTreeMap::new();
    let mut drafts: Vec<Draft> = Vec::new();
    for record in reader.records() {
        let record = record.map_err(broken)?;
        let line = record.position().map_or(0, csv::Position::line);
        let here = format!("{place}:{line}");
        let field = |at: usize| record.get(at).unwrap_or("");
        let (file, label) = (field(path_at), field(label_at));
        for (name, value) in [("path", file), ("label", label)] {
            if value.is_empty() {
                return Err(DataError::data(
                    here,
                    format!("empty {name}"),
                    format!("fill in the {name}"),
                ));
            }
        }
        if let Some(earlier) = seen.insert(file.to_string(), line) {
            return Err(DataError::data(
                here,
                format!("`{file}` was listed before, on line {earlier}"),
                "list every image once",
            ));
        }
        let split = match split_at.map(field) {
            None | Some("") => None,
            Some(name) => Some(Split::from_name(name).ok_or_else(|| {
                let hint = did_you_mean(name, ["train", "val", "test"]);
                DataError::data(
                    here.clone(),
                    format!("unknown split `{name}`"),
                    format!("{hint}use train, val or test"),
                )
            })?),
        };
        if let Some(first) = drafts.first()
            && first.split.is_some() != split.is_some()
        {
            return Err(DataError::data(
                here,
                "some lines name a split and some do not",
                "name a split on every line, or leave the column out",
            ));
        }
        let group = group_at
            .map(field)
            .filter(|g| !g.is_empty())
            .map(str::to_string);
        if let (Some(group), Some(split)) = (&group, split) {
            let (first, first_line) = *group_split.entry(group.clone()).or_insert((split, line));
            if first != split {
                return Err(DataError::data(
                    here,
                    format!(
                        "group `{group}` is in `{split}` here and in `{first}` on line {first_line}"
                    ),
                    "keep every group within one split",
                ));
            }
        }
        let class = *class_of.entry(label.to_string()).or_insert_with(|| {
            classes.push(label.to_string());
            classes.len() - 1
        });
        let source = source(base, file);
        let group = match &source {
            Source::Volume(paths) if group_at.is_none() => {
                paths.first().and_then(|path| volume::patient(path))
            }
            _ => group,
        };
        if let Some(first) = drafts.first()
            && matches!(first.source, Source::Volume(_)) != matches!(source, Source::Volume(_))
        {
            return Err(DataError::data(
                here,
                "volumes and pictures in one list",
                "keep volumes and pictures in data sets of their own",
            ));
        }
        drafts.push(Draft {
            source,
            class,
            split,
            group,
        });
    }
    if drafts.is_empty() {
        return Err(DataError::data(
            place,
            "no images are listed",
            "add a line per image below the first",
        ));
    }
    Ok(Found {
        name: place.to_string(),
        format: Format::Manifest,
        classes,
        ordered: false,
        drafts,
        stores: Vec::new(),
        notes,
    })
}
