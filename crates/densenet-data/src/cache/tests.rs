//! Entries come back bit for bit, damaged ones are made anew, the folder stays within its limit.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::decoded::{DecodedImage, Samples};
use crate::volume::Space;

fn sample(samples: Samples, space: Option<Space>) -> Steady {
    let spatial = [1, 2, samples.len() / 2];
    let image = match space {
        Some(space) => DecodedImage::of_volume(spatial, 1, samples, space),
        None => DecodedImage::assembled(spatial, 1, samples),
    };
    Steady {
        hash: image.content_hash(),
        kind: "float volume".into(),
        image,
    }
}

fn numbers(n: usize, value: f32) -> Steady {
    let values = (0..n).map(|i| value + i as f32).collect();
    sample(Samples::F32(values), Some(Space::UNKNOWN))
}

fn source(dir: &TempDir, name: &str, content: &str) -> Vec<PathBuf> {
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    vec![path]
}

fn never() -> Result<Steady, DataError> {
    Err(DataError::data("", "made again", ""))
}

fn entries(folder: &std::path::Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    all.sort();
    all
}

#[test]
fn every_type_comes_back_bit_for_bit() {
    let (dir, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut space = Space::UNKNOWN;
    space.affine[1][3] = -7.25;
    let odd = vec![-0.0, f32::MIN_POSITIVE, 1e30, f32::NAN];
    for (i, steady) in [
        sample(Samples::U8(vec![0, 7, 255, 1]), None),
        sample(Samples::U16(vec![0, 700, 65535, 1]), None),
        sample(Samples::F32(odd), Some(space)),
        // More than one piece.
        sample(Samples::F32((0..40_000).map(|v| v as f32).collect()), None),
    ]
    .into_iter()
    .enumerate()
    {
        let files = source(&dir, "x", &i.to_string());
        let cache = DiskCache::open(folder.path(), 1 << 30).unwrap();
        cache.get(&files, b"r", || Ok(steady.clone())).unwrap();
        // Another run.
        let cache = DiskCache::open(folder.path(), 1 << 30).unwrap();
        let again = cache.get(&files, b"r", never).unwrap();
        assert_eq!((again.hash, &again.kind), (steady.hash, &steady.kind));
        assert_eq!(again.image.space(), steady.image.space());
        assert_eq!(again.image.content_hash(), steady.image.content_hash());
        assert_eq!(cache.counts(), (1, 0));
    }
}

#[test]
fn other_content_or_other_steps_are_other_samples() {
    let (dir, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let cache = DiskCache::open(folder.path(), 1 << 20).unwrap();
    let files = source(&dir, "x", "one");
    cache.get(&files, b"r", || Ok(numbers(4, 1.0))).unwrap();
    assert!(cache.get(&files, b"r2", never).is_err());
    // The same bytes under another name are the same sample.
    let copy = source(&dir, "y", "one");
    assert_eq!(cache.get(&copy, b"r", never).unwrap(), numbers(4, 1.0));
    source(&dir, "x", "another");
    assert!(cache.get(&files, b"r", never).is_err());
    let both = [files, copy].concat();
    assert!(cache.get(&both, b"r", never).is_err());
    assert_eq!(
        cache
            .get(&[dir.path().join("z")], b"r", never)
            .unwrap_err()
            .exit_code(),
        5
    );
}

#[test]
fn damaged_entries_are_made_anew() {
    let (dir, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let files = source(&dir, "x", "one");
    let good = numbers(30, 1.0);
    DiskCache::open(folder.path(), 1 << 20)
        .unwrap()
        .get(&files, b"r", || Ok(good.clone()))
        .unwrap();
    let path = entries(folder.path()).remove(0);
    let whole = fs::read(&path).unwrap();
    assert_eq!(whole.len() as u64, Entry::size(&good));
    let flipped = (0..whole.len()).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    });
    let cut = (0..whole.len()).map(|n| whole[..n].to_vec());
    let longer = [[whole.clone(), vec![0]].concat()];
    for damaged in flipped.chain(cut).chain(longer) {
        fs::write(&path, damaged).unwrap();
        let cache = DiskCache::open(folder.path(), 1 << 20).unwrap();
        assert_eq!(cache.get(&files, b"r", || Ok(good.clone())).unwrap(), good);
        assert_eq!(cache.counts(), (0, 1));
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}

#[test]
fn the_folder_stays_within_its_limit() {
    let (dir, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let one = Entry::size(&numbers(100, 0.0));
    let fill = |cache: &DiskCache, names: std::ops::Range<usize>| {
        for i in names {
            let files = source(&dir, "x", &i.to_string());
            cache
                .get(&files, b"r", || Ok(numbers(100, i as f32)))
                .unwrap();
        }
    };
    let size = || {
        entries(folder.path())
            .iter()
            .map(|p| fs::metadata(p).unwrap().len())
            .sum::<u64>()
    };
    let cache = DiskCache::open(folder.path(), 3 * one + one / 2).unwrap();
    fill(&cache, 0..30);
    // What this run has used stays: the first three.
    assert_eq!((size(), cache.bytes()), (3 * one, 3 * one));
    fill(&cache, 0..3);
    assert_eq!(cache.counts(), (3, 30));
    // Another run with other samples takes their place.
    let cache = DiskCache::open(folder.path(), 3 * one + one / 2).unwrap();
    fill(&cache, 40..42);
    assert_eq!(size(), 3 * one);
    fill(&cache, 40..42);
    assert_eq!(cache.counts(), (2, 2));
    // A smaller limit is enforced at once, and files of others are left alone.
    fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    let cache = DiskCache::open(folder.path(), one).unwrap();
    assert_eq!(cache.bytes(), one);
    assert!(folder.path().join("notes.txt").exists());
}

#[test]
fn a_folder_that_cannot_be_made_is_refused_and_one_that_goes_away_is_told() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(DiskCache::open(&file, 1).unwrap_err().exit_code(), 5);
    let folder = dir.path().join("cache");
    let cache = DiskCache::open(&folder, 1 << 20).unwrap();
    fs::remove_dir(&folder).unwrap();
    let files = source(&dir, "x", "one");
    let made = cache.get(&files, b"r", || Ok(numbers(4, 1.0))).unwrap();
    assert_eq!(made, numbers(4, 1.0));
    assert!(cache.trouble().unwrap().contains("cannot be written"));
    assert_eq!(cache.bytes(), 0);
}

#[test]
fn threads_share_a_folder() {
    let (dir, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let cache = DiskCache::open(folder.path(), 1 << 20).unwrap();
    let files: Vec<_> = (0..8)
        .map(|i| source(&dir, &i.to_string(), &i.to_string()))
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (i, files) in files.iter().enumerate() {
                    let expected = numbers(50, i as f32);
                    let got = cache.get(files, b"r", || Ok(expected.clone())).unwrap();
                    assert_eq!(got, expected);
                }
            });
        }
    });
    let expected = 8 * Entry::size(&numbers(50, 0.0));
    assert_eq!(cache.bytes(), expected);
    assert_eq!(entries(folder.path()).len(), 8);
}
