//! Batches: the same ones however they are made.

use std::sync::Arc;

use densenet_data::{
    Augmentation, Batch, DataError, Dataset, LastBatch, Loader, LoaderOptions, OpenOptions,
    Preprocessing, Split, decode_file,
};

fn digits() -> Arc<Dataset> {
    Arc::new(Dataset::digits(&OpenOptions::default()).unwrap())
}

fn loader(options: LoaderOptions) -> Loader {
    let preprocessing = Preprocessing {
        mean: vec![0.3],
        std: vec![0.4],
        ..Preprocessing::exact(1, [12, 10])
    };
    Loader::new(digits(), Split::Train, preprocessing, options).unwrap()
}

fn training() -> LoaderOptions {
    let augmentation: Augmentation = "crop:2,hflip,rotate:10,jitter:0.2,erase:0.5"
        .parse()
        .unwrap();
    LoaderOptions {
        augmentation,
        ..LoaderOptions::training(100, 5)
    }
}

fn batches(loader: &Loader, epoch: u32, start: usize) -> Vec<Batch> {
    loader
        .epoch(epoch, start)
        .collect::<Result<_, DataError>>()
        .unwrap()
}

#[test]
fn threads_cache_and_prefetch_change_nothing() {
    let expected = batches(
        &loader(LoaderOptions {
            threads: 1,
            cache_bytes: 0,
            prefetch: 0,
            ..training()
        }),
        3,
        0,
    );
    assert!(expected.iter().enumerate().all(|(i, b)| b.number == i));
    for threads in 1..=8 {
        for cache_bytes in [0, 20_000, 1 << 30] {
            let loader = loader(LoaderOptions {
                threads,
                cache_bytes,
                prefetch: threads % 3,
                ..training()
            });
            for _ in 0..2 {
                let found = batches(&loader, 3, 0);
                assert!(
                    found == expected,
                    "{threads} threads, {cache_bytes} bytes of cache"
                );
                found.into_iter().for_each(|b| loader.recycle(b));
            }
        }
    }
    let crop = LoaderOptions {
        augmentation: "rrc:0.3,hflip".parse().unwrap(),
        ..training()
    };
    let one = batches(
        &loader(LoaderOptions {
            threads: 1,
            cache_bytes: 0,
            ..crop.clone()
        }),
        0,
        0,
    );
    assert!(one == batches(&loader(LoaderOptions { threads: 5, ..crop }), 0, 0));
}

#[test]
fn an_epoch_resumed_anywhere_goes_on_the_same() {
    let loader = loader(training());
    let whole = batches(&loader, 7, 0);
    for start in 0..=whole.len() {
        assert!(
            batches(&loader, 7, start) == whole[start..],
            "from batch {start}"
        );
    }
    assert!(batches(&loader, 7, 1000).is_empty());
    let mut partly = loader.epoch(7, 0);
    assert_eq!(partly.remaining(), whole.len());
    partly.next().unwrap().unwrap();
    drop(partly); // Ends its threads without taking their batches.
    assert!(batches(&loader, 7, 0) == whole);
}

#[test]
fn every_sample_comes_once_in_a_new_order() {
    let loader = loader(training());
    let order = |epoch| {
        batches(&loader, epoch, 0)
            .into_iter()
            .flat_map(|b| b.indices)
            .collect::<Vec<_>>()
    };
    let (first, second) = (order(0), order(1));
    assert_ne!(first, second);
    let digits = digits();
    for mut order in [first, second] {
        order.sort_unstable();
        assert_eq!(order, digits.indices(Split::Train));
    }
    for batch in batches(&loader, 0, 0) {
        assert_eq!(batch.data.len(), batch.len() * 12 * 10);
        assert_eq!((batch.spatial, batch.channels), ([1, 12, 10], 1));
        assert!(
            batch
                .indices
                .iter()
                .zip(&batch.labels)
                .all(|(&i, &l)| digits.label(i) == l)
        );
    }
    let steady = Loader::new(
        digits.clone(),
        Split::Test,
        Preprocessing::plain(1),
        LoaderOptions {
            threads: 3,
            ..LoaderOptions::evaluation(64)
        },
    )
    .unwrap();
    let all: Vec<Batch> = batches(&steady, 0, 0);
    assert_eq!(
        all.iter()
            .flat_map(|b| b.indices.clone())
            .collect::<Vec<_>>(),
        digits.indices(Split::Test)
    );
    // What the loader gives is what `apply` gives.
    let sample = Preprocessing::plain(1)
        .apply(&digits.decode(all[1].indices[2]).unwrap())
        .unwrap();
    assert_eq!(all[1].data[128..192], sample.data);
}

#[test]
fn a_single_last_sample_is_merged_dropped_or_kept() {
    let sizes = |n: usize, batch_size: usize, last: LastBatch| {
        let options = LoaderOptions {
            last,
            threads: 2,
            ..LoaderOptions::evaluation(batch_size)
        };
        let loader =
            Loader::of(digits(), (0..n).collect(), Preprocessing::plain(1), options).unwrap();
        let sizes: Vec<usize> = batches(&loader, 0, 0).iter().map(Batch::len).collect();
        assert_eq!(loader.batches(), sizes.len());
        assert_eq!(loader.samples(), sizes.iter().sum::<usize>());
        assert_eq!(loader.largest_batch(), *sizes.iter().max().unwrap());
        assert_eq!(loader.smallest_batch(), *sizes.iter().min().unwrap());
        sizes
    };
    assert_eq!(sizes(9, 4, LastBatch::Keep), [4, 4, 1]);
    assert_eq!(sizes(9, 4, LastBatch::MergeSingle), [4, 5]);
    assert_eq!(sizes(9, 4, LastBatch::DropSingle), [4, 4]);
    assert_eq!(sizes(10, 4, LastBatch::MergeSingle), [4, 4, 2]);
    for last in [
        LastBatch::Keep,
        LastBatch::MergeSingle,
        LastBatch::DropSingle,
    ] {
        assert_eq!(sizes(8, 4, last), [4, 4]);
        assert_eq!(sizes(1, 4, last), [1]);
        assert_eq!(sizes(3, 1, last), [1, 1, 1]);
        assert_eq!(sizes(3, 9, last), [3]);
    }
}

#[test]
fn faults_reach_the_caller_once() {
    let dir = tempfile::TempDir::new().unwrap();
    for class in ["a", "b"] {
        std::fs::create_dir(dir.path().join(class)).unwrap();
        for i in 0..10 {
            image::GrayImage::new(5, 5)
                .save(dir.path().join(class).join(format!("{i}.png")))
                .unwrap();
        }
    }
    let set = Arc::new(Dataset::open(dir.path(), &OpenOptions::default()).unwrap());
    let victim = set
        .path(set.indices(Split::Train)[5])
        .unwrap()
        .to_path_buf();
    let new =
        |preprocessing, options| Loader::new(set.clone(), Split::Train, preprocessing, options);
    let good = new(Preprocessing::plain(1), LoaderOptions::evaluation(4)).unwrap();
    // The check was passed, then the file vanished.
    std::fs::remove_file(&victim).unwrap();
    let results: Vec<_> = good.epoch(0, 0).collect();
    assert_eq!(results.len(), 2);
    let error = results[1].as_ref().unwrap_err();
    assert_eq!(
        (error.place(), error.exit_code()),
        (victim.to_str().unwrap(), 5)
    );
    image::GrayImage::new(6, 5).save(&victim).unwrap();
    let results: Vec<_> = good.epoch(0, 0).collect();
    assert!(
        results[1]
            .as_ref()
            .unwrap_err()
            .what()
            .contains("5 × 6 pixels where others have 5 × 5")
    );
    assert!(decode_file(&victim).is_ok());

    let message = |options| {
        new(Preprocessing::plain(1), options)
            .err()
            .unwrap()
            .to_string()
    };
    assert_eq!(
        message(LoaderOptions::evaluation(0)),
        "batch_size: 0 — give at least 1"
    );
    assert_eq!(
        message(LoaderOptions {
            threads: 0,
            ..LoaderOptions::evaluation(1)
        }),
        "loader threads: 0 — give at least 1"
    );
    let empty = Loader::of(
        set.clone(),
        vec![],
        Preprocessing::plain(1),
        LoaderOptions::evaluation(1),
    );
    assert!(empty.err().unwrap().what().contains("no samples"));
}
