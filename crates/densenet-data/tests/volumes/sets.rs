//! Data sets of volumes, from folders, lists and the generator to batches.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use densenet_data::{
    Dataset, Format, Loader, LoaderOptions, OnError, OpenOptions, Preprocessing, Split, check, npy,
};
use tempfile::TempDir;

use super::dicom::file;

fn volume(path: &Path, value: f32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let data: Vec<f32> = (0..60).map(|i| value + i as f32 / 60.0).collect();
    fs::write(path, npy::to_bytes(&[3, 4, 5], &data).unwrap()).unwrap();
}

fn open(path: &Path) -> Result<Dataset, densenet_data::DataError> {
    Dataset::open(path, &OpenOptions::default())
}

#[test]
fn folders_of_volumes_become_batches() {
    let dir = TempDir::new().unwrap();
    for class in ["a", "b"] {
        for i in 0..10 {
            volume(&dir.path().join(class).join(format!("{i}.npy")), i as f32);
        }
    }
    let set = open(dir.path()).unwrap();
    assert_eq!(
        (set.format(), set.is_volumes(), set.len()),
        (Format::VolumeFolder, true, 20)
    );
    let mut preprocessing = Preprocessing::suggest_volume(&set, None, None);
    let inspection = check(&set, &preprocessing, 2, &|_, _| true)
        .unwrap()
        .unwrap();
    assert!(inspection.bad.is_empty());
    let set = Arc::new(inspection.accept(&set, OnError::Fail).unwrap());
    (preprocessing.mean, preprocessing.std) = (inspection.mean, inspection.std);
    let batches = |threads| {
        let options = LoaderOptions {
            threads,
            augmentation:
                "crop:1,dflip,rot90,rotate:10,scale:0.1,gamma:0.2,noise:0.1,brightness:0.1"
                    .parse()
                    .unwrap(),
            ..LoaderOptions::training(4, 7)
        };
        let loader =
            Loader::new(set.clone(), Split::Train, preprocessing.clone(), options).unwrap();
        assert_eq!((loader.spatial(), loader.channels()), ([3, 4, 5], 1));
        loader.epoch(1, 0).map(Result::unwrap).collect::<Vec<_>>()
    };
    let one = batches(1);
    assert_eq!(one, batches(3));
    assert!(one.iter().all(|b| b.data.iter().all(|v| v.is_finite())));
}

#[test]
fn dicom_series_are_samples_and_patients_are_groups() {
    let dir = TempDir::new().unwrap();
    for class in ["a", "b"] {
        for scan in 0..6 {
            let folder = dir.path().join(class).join(format!("scan{scan}"));
            fs::create_dir_all(&folder).unwrap();
            for z in 0..2 {
                let bytes = file(scan, [0.0, 0.0, f64::from(z)], 1.0);
                fs::write(folder.join(format!("{z}.dcm")), bytes).unwrap();
            }
        }
    }
    let set = open(dir.path()).unwrap();
    assert_eq!(
        (set.len(), set.decode(0).unwrap().spatial()),
        (12, [2, 2, 3])
    );
    // All are scans of one patient, who stays in one split.
    let used = Split::ALL
        .iter()
        .filter(|&&s| !set.indices(s).is_empty())
        .count();
    assert_eq!(used, 1);
    fs::write(dir.path().join("a/loose.dcm"), file(0, [0.0; 3], 1.0)).unwrap();
    let error = open(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("DICOM files directly in the class folder"),
        "{error}"
    );
}

#[test]
fn lists_name_channels() {
    let dir = TempDir::new().unwrap();
    let mut list = String::from("path,label,group\n");
    for i in 0..6 {
        volume(&dir.path().join(format!("t1_{i}.npy")), i as f32);
        volume(&dir.path().join(format!("t2_{i}.npy")), 100.0);
        list += &format!("t1_{i}.npy; t2_{i}.npy,{},p{i}\n", ["x", "y"][i % 2]);
    }
    let path = dir.path().join("list.csv");
    fs::write(&path, &list).unwrap();
    let set = open(&path).unwrap();
    let sample = set.decode(0).unwrap();
    assert_eq!((sample.spatial(), sample.channels()), ([3, 4, 5], 2));
    assert_eq!(
        super::values(&sample)[..4],
        [0.0, 100.0, 1.0 / 60.0, 100.0 + 1.0 / 60.0]
    );
    let data = vec![0.0; 12];
    fs::write(
        dir.path().join("t2_0.npy"),
        npy::to_bytes(&[3, 2, 2], &data).unwrap(),
    )
    .unwrap();
    let error = set.decode(0).unwrap_err().to_string();
    assert!(error.contains("[3, 2, 2] voxels, while"), "{error}");
    fs::write(dir.path().join("x.png"), "").unwrap();
    fs::write(&path, list + "x.png,x,p9\n").unwrap();
    assert!(
        open(&path)
            .unwrap_err()
            .to_string()
            .contains("volumes and pictures in one list")
    );
}

#[test]
fn the_generated_volumes_come_as_a_data_set() {
    let set = open(Path::new("shapes3d")).unwrap();
    let preprocessing = Preprocessing::suggest_volume(&set, None, None);
    assert_eq!(
        (preprocessing.channels, preprocessing.fixed_volume()),
        (1, Some([28; 3]))
    );
    let prepared = preprocessing.apply(&set.decode(3).unwrap()).unwrap();
    assert!(prepared.data.iter().all(|v| (0.0..=1.0).contains(v)));
}

#[test]
fn a_small_cache_changes_no_batch() {
    let dir = TempDir::new().unwrap();
    for class in ["a", "b"] {
        for i in 0..8 {
            volume(&dir.path().join(class).join(format!("{i}.npy")), i as f32);
        }
    }
    let set = Arc::new(open(dir.path()).unwrap());
    let preprocessing = Preprocessing::suggest_volume(&set, None, None);
    let batches = |cache_bytes| {
        let options = LoaderOptions {
            cache_bytes,
            ..LoaderOptions::training(4, 7)
        };
        let loader =
            Loader::new(set.clone(), Split::Train, preprocessing.clone(), options).unwrap();
        (0..2)
            .flat_map(|epoch| {
                loader
                    .epoch(epoch, 0)
                    .map(Result::unwrap)
                    .collect::<Vec<_>>()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(batches(0), batches(1 << 20));
    assert_eq!(batches(700), batches(1 << 20));
}
