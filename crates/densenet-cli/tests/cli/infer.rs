//! `densenet infer`: agreement with the reference, the same bits for any number of threads, and bad inputs.

use densenet_data::npy::{self, Array};
use densenet_reference::{Network, Tensor};
use densenet_spec::{Architecture, DenseNetConfig, preset};
use densenet_testkit::{Tolerance, assert_close, generate_input, generate_parameters};
use densenet_weights::{Model, StateDict, Tensor as Weights};

use crate::support::Place;

/// A small network with awkward sizes.
fn tiny(dims: usize) -> DenseNetConfig {
    DenseNetConfig {
        growth_rate: 5,
        num_init_features: 7,
        block_config: vec![2, 3],
        num_classes: 4,
        in_channels: 2,
        ..preset("densenet121").unwrap().config(dims).unwrap()
    }
}

fn save(place: &Place, config: &DenseNetConfig) {
    let architecture = Architecture::new(config).unwrap();
    let state: StateDict = generate_parameters(&architecture, 11)
        .into_iter()
        .map(|p| (p.name, Weights::new(p.shape, p.data).unwrap()))
        .collect();
    Model::new(config.clone(), state)
        .unwrap()
        .save(&place.path("tiny.safetensors"))
        .unwrap();
}

fn write(place: &Place, name: &str, shape: &[usize], data: &[f32]) {
    place.write(name, npy::to_bytes(shape, data).unwrap());
}

fn read(place: &Place, name: &str) -> Array {
    npy::read(&place.path(name)).unwrap()
}

/// Rounding of f32 sums against the reference's f64 ones, relative to the largest value of a layer: a chain of fewer
/// than 50 layers of sums over fewer than 1024 terms, at one rounding each on average.
fn tolerance(expected: &[f64]) -> Tolerance {
    Tolerance::of_peak(expected, 1e-5)
}

fn agrees_with_the_reference(dims: usize, spatial: [usize; 3]) {
    let place = Place::new();
    let config = tiny(dims);
    save(&place, &config);
    let shape = [&[2, 2], &spatial[3 - dims..]].concat();
    let input = generate_input(&shape, 5, 0);
    write(&place, "x.npy", &shape, &input);
    let taps = [
        "features.conv0",
        "stem",
        "denseblock1",
        "transition1",
        "denseblock2.denselayer3.norm2",
        "norm5",
    ];
    let mut args: Vec<String> = "infer tiny.safetensors --input x.npy --output y.npy"
        .split(' ')
        .map(String::from)
        .collect();
    for tap in taps {
        args.extend(["--tap".into(), format!("{tap}={tap}.npy")]);
    }
    let out = place.run_args(&args).done();
    assert_eq!(out, "");

    let architecture = Architecture::new(&config).unwrap();
    let parameters = generate_parameters(&architecture, 11)
        .into_iter()
        .map(|p| (p.name, p.data.iter().map(|&v| f64::from(v)).collect()))
        .collect();
    let reference = Network::new(&architecture, parameters).unwrap();
    let images = Tensor::new(2, 2, spatial, input.iter().map(|&v| f64::from(v)).collect());
    let mut layers = std::collections::HashMap::new();
    let logits = reference
        .forward_with(&images, |layer, output| {
            layers.insert(layer.name.clone(), output.clone());
        })
        .unwrap();
    let y = read(&place, "y.npy");
    assert_eq!(y.shape, [2, 4]);
    assert_close(&y.data, &logits.data, tolerance(&logits.data), "logits");
    for (tap, layer) in taps.iter().zip([
        "features.conv0",
        "features.pool0",
        "features.denseblock1.denselayer2.concat",
        "features.transition1.pool",
        "features.denseblock2.denselayer3.norm2",
        "features.norm5",
    ]) {
        let expected = &layers[layer];
        let found = read(&place, &format!("{tap}.npy"));
        assert_eq!(
            found.shape[..2],
            [expected.batch, expected.channels],
            "{tap}"
        );
        assert_eq!(found.shape[2..], expected.spatial[3 - dims..], "{tap}");
        assert_close(&found.data, &expected.data, tolerance(&expected.data), tap);
    }
}

#[test]
fn images_agree_with_the_reference_layer_by_layer() {
    agrees_with_the_reference(2, [1, 33, 47]);
}

#[test]
fn volumes_agree_with_the_reference_layer_by_layer() {
    agrees_with_the_reference(3, [19, 16, 21]);
}

#[test]
fn threads_and_batch_change_no_bit() {
    let place = Place::new();
    save(&place, &tiny(2));
    let input = generate_input(&[3, 2, 40, 40], 5, 0);
    write(&place, "x.npy", &[3, 2, 40, 40], &input);
    write(&place, "one.npy", &[1, 2, 40, 40], &input[..2 * 40 * 40]);
    for threads in [1, 2, 3, 8] {
        place
            .run(&format!(
                "infer tiny.safetensors --input x.npy --output y{threads}.npy --threads {threads}"
            ))
            .done();
        assert!(
            place.read(&format!("y{threads}.npy")) == place.read("y1.npy"),
            "{threads} threads"
        );
    }
    place
        .run("infer tiny.safetensors --input one.npy --output one-y.npy")
        .done();
    assert_eq!(
        read(&place, "one-y.npy").data,
        read(&place, "y1.npy").data[..4]
    );
}

#[test]
fn bad_inputs_are_explained() {
    let place = Place::new();
    save(&place, &tiny(2));
    write(&place, "x.npy", &[1, 2, 40, 40], &[0.5; 2 * 40 * 40]);
    write(&place, "rgb.npy", &[1, 3, 40, 40], &[0.5; 3 * 40 * 40]);
    write(&place, "flat.npy", &[2, 40, 40], &[0.5; 2 * 40 * 40]);
    write(&place, "small.npy", &[1, 2, 4, 4], &[0.5; 2 * 4 * 4]);
    write(&place, "none.npy", &[0, 2, 40, 40], &[]);
    write(&place, "nan.npy", &[1, 2, 40, 40], &[f32::NAN; 2 * 40 * 40]);
    let whole = place.read("x.npy");
    place.write("cut.npy", &whole[..whole.len() - 7]);
    place.write("object.npy", b"\x93NUMPY\x01\x00\x46\x00{'descr': '|O', 'fortran_order': False, 'shape': (1, 2, 40, 40), }     \n");
    let with = |options: &str| format!("infer tiny.safetensors {options} --output y.npy");
    for (line, code, parts) in [
        (
            with("--input rgb.npy"),
            3,
            &["rgb.npy", "3 channels", "takes 2"] as &[_],
        ),
        (
            with("--input flat.npy"),
            3,
            &["flat.npy", "batch × channels × height × width"],
        ),
        (
            with("--input small.npy"),
            3,
            &["small.npy", "too small", "smallest input that works is"],
        ),
        (with("--input none.npy"), 3, &["none.npy", "empty"]),
        (with("--input nan.npy"), 6, &["nan.npy", "NaN"]),
        (with("--input cut.npy"), 3, &["cut.npy", "cut off"]),
        (with("--input object.npy"), 3, &["object.npy", "pickle"]),
        (
            with("--input tiny.safetensors"),
            3,
            &["tiny.safetensors", "not a NumPy array"],
        ),
        (
            with("--input absent.npy"),
            5,
            &["absent.npy", "no such file"],
        ),
        (
            with("--input x.npy --tap densblock1=t.npy"),
            2,
            &["densblock1", "did you mean denseblock1?"],
        ),
        (
            with("--input x.npy --tap stem"),
            2,
            &["--tap stem", "LAYER=FILE"],
        ),
        (
            with("--input x.npy --dtype f16"),
            2,
            &["--dtype", "f16", "bf16"],
        ),
        (with("--input x.npy --threads 0"), 2, &["--threads 0"]),
        (
            with("--input x.npy --threads 100000"),
            2,
            &["--threads 100000"],
        ),
        (with("--input x.npy --device gpu"), 2, &["--device gpu"]),
        (
            "infer absent.safetensors --input x.npy --output y.npy".into(),
            5,
            &["absent.safetensors"],
        ),
        (
            "infer x.npy --input x.npy --output y.npy".into(),
            4,
            &["x.npy"],
        ),
    ] {
        place.run(&line).fails(code, parts);
    }
    assert!(!place.path("y.npy").exists());
    place
        .run("infer tiny.safetensors --input x.npy --output absent/y.npy")
        .fails(5, &["absent/y.npy"]);
    let mut command = place.command();
    command
        .args([
            "infer",
            "tiny.safetensors",
            "--input",
            "x.npy",
            "--output",
            "y.npy",
        ])
        .env("DENSENET_ISA", "mmx");
    crate::support::run(&mut command).fails(2, &["DENSENET_ISA", "mmx", "portable"]);
}
