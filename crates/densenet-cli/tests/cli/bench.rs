//! `densenet bench`: what it reports, not how fast it is.

use crate::support::Place;

const TINY: &str = "densenet-bc-100-12 --growth-rate 4 --block-config 2,2 --input 16 --iterations 2 --warmup 0 --threads 1";

#[test]
fn the_document_has_the_promised_fields() {
    let place = Place::new();
    for (options, stages) in [
        ("", 5),
        ("--dtype bf16", 5),
        ("--train --batch 2", 0),
        ("--train --batch 2 --memory-efficient", 0),
    ] {
        let document = place.run(&format!("bench {TINY} {options} --json")).json();
        let keys: Vec<_> = document.as_object().unwrap().keys().collect();
        let (keys, more) = keys.split_at(9);
        let training = options.contains("--train");
        assert_eq!(
            more.first().is_some_and(|key| *key == "step_bytes"),
            training
        );
        assert_eq!(
            keys,
            [
                "median_ms",
                "min_ms",
                "times_ms",
                "gflops",
                "peak_gflops",
                "peak_rss_bytes",
                "threads",
                "isa",
                "stages"
            ]
        );
        let number = |key: &str| document[key].as_f64().unwrap();
        assert!(number("min_ms") > 0.0 && number("min_ms") <= number("median_ms"));
        assert_eq!(document["times_ms"].as_array().unwrap().len(), 2);
        assert_eq!(document["times_ms"][0], document["min_ms"]);
        assert!(number("gflops") > 0.0);
        assert_eq!(document["threads"], 1);
        let timed = document["stages"].as_array().unwrap();
        assert_eq!(timed.len(), stages, "{timed:?}");
        if stages > 0 {
            assert_eq!(timed[0]["name"], "stem");
            let kernels = timed[1]["kernels"].as_array().unwrap();
            let ids: Vec<_> = kernels.iter().map(|k| k["id"].as_str().unwrap()).collect();
            assert!(ids.iter().all(|id| id.split('.').count() == 6), "{ids:?}");
            let isa = document["isa"].as_str().unwrap();
            assert!(ids.iter().all(|id| id.ends_with(isa)), "{ids:?}");
            assert_eq!(
                options.contains("bf16"),
                ids.iter().any(|id| id.contains(".bf16."))
            );
            let calls = kernels
                .iter()
                .map(|k| k["calls"].as_u64().unwrap())
                .sum::<u64>();
            assert_eq!(calls, 4, "two layers of two convolutions");
            assert!(kernels[0]["peak_share"].as_f64().unwrap() > 0.0);
            let share: f64 = timed.iter().map(|s| s["share"].as_f64().unwrap()).sum();
            assert!((share - 1.0).abs() < 1e-9, "{share}");
        }
    }
}

#[test]
fn people_get_a_table() {
    let out = Place::new().run(&format!("bench {TINY}")).done();
    for part in [
        "prediction, batch 1, 1 thread,",
        "Median",
        "GFLOP/s",
        "denseblock2",
    ] {
        assert!(out.contains(part), "{part} is not in:\n{out}");
    }
}

#[test]
fn what_cannot_be_timed_is_explained() {
    let place = Place::new();
    for (line, code, parts) in [
        (
            "bench densenet121 --input 20",
            2,
            &["20x20", "29x29"] as &[_],
        ),
        ("bench densenet121 --iterations 0", 2, &["--iterations 0"]),
        (
            "bench densenet121 --dtype bf16 --train",
            2,
            &["--dtype bf16", "--train"],
        ),
        (
            "bench densenet122",
            2,
            &["densenet122", "did you mean densenet121?"],
        ),
        ("bench absent.safetensors", 5, &["absent.safetensors"]),
        (
            "bench densenet121 --batch 99999999 --input 60000",
            7,
            &["--input", "smaller"],
        ),
    ] {
        place.run(line).fails(code, parts);
    }
}
