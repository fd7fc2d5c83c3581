//! 2-D weights made 3-D, on volumes whose slices are all the same image.
//!
//! Along the depth such a volume is constant, so convolution, norm, ReLU and both poolings keep it constant and do to each
//! slice what they do to the image: all but the zero padding of the convolutions. A slice of a feature map is therefore the
//! 2-D network's map exactly where no padding was read on the way to it. Which slices those are is followed here through
//! the list of layers, and both sides are held: inside equal to rounding, at the ends not.

use densenet::{
    Input, Predictor,
    spec::{Architecture, DenseNetConfig, Op, Stem, preset},
    weights::{Inflation, Model, StateDict, Tensor},
};
use densenet_testkit::{
    Tolerance, assert_close, channels_last, generate_input, generate_parameters,
};

fn model(config: &DenseNetConfig) -> Model {
    let mut state = StateDict::new();
    for p in generate_parameters(&Architecture::new(config).unwrap(), 5) {
        let (shape, data) = (p.shape, p.data);
        state.insert(p.name, Tensor { shape, data });
    }
    Model::new(config.clone(), state).unwrap()
}

/// Which slices of each layer's output, for a volume of `depth` slices, have read padding along the depth.
fn touched(architecture: &Architecture, depth: usize) -> Vec<Vec<bool>> {
    let mut layers: Vec<Vec<bool>> = Vec::new();
    let mut now = vec![false; depth];
    let mut old = now.clone();
    for (i, layer) in architecture.layers().iter().enumerate() {
        let opens = i > 0 && architecture.layers()[i - 1].op == Op::Concat;
        if opens || layer.name.ends_with("denselayer1.norm1") {
            old = now.clone();
        }
        now = match layer.op {
            Op::Conv(w) | Op::MaxPool(w) | Op::AvgPool(w) => {
                let (k, s, p) = (w.kernel[0], w.stride[0], w.padding[0]);
                let outputs = (now.len() + 2 * p - k) / s + 1;
                let reads =
                    |z: usize, tap: usize| (z * s + tap).checked_sub(p).and_then(|i| now.get(i));
                (0..outputs)
                    .map(|z| {
                        (0..k).any(|tap| match reads(z, tap) {
                            Some(touched) => *touched,
                            // A max-pool's border is no value.
                            None => matches!(layer.op, Op::Conv(_)),
                        })
                    })
                    .collect()
            }
            Op::Concat => now.iter().zip(&old).map(|(a, b)| *a || *b).collect(),
            Op::GlobalAvgPool | Op::Linear => vec![now.iter().any(|t| *t)],
            _ => now,
        };
        layers.push(now.clone());
    }
    layers
}

#[test]
fn a_constant_volume_gives_what_its_slice_gives() {
    let small = DenseNetConfig {
        growth_rate: 6,
        block_config: vec![1, 2],
        num_init_features: 10,
        num_classes: 5,
        bn_size: 2,
        ..preset("densenet121").unwrap().config(2).unwrap()
    };
    let plain = DenseNetConfig {
        bn_size: 0,
        stem: Stem::small(2),
        ..small.clone()
    };
    for (config, depth) in [(small, 64), (plain, 40)] {
        let [height, width] = [37, 34];
        let shape = [1, config.in_channels, height, width];
        let image = channels_last(&generate_input(&shape, 9, 0), &shape);
        let flat = model(&config);
        let predictor = Predictor::new(&flat.config, &flat.state).unwrap();
        let names: Vec<&str> = vec!["stem", "denseblock1", "transition1", "denseblock2", "relu5"];
        let input = Input {
            data: &image,
            batch: 1,
            spatial: [1, height, width],
        };
        let expected = predictor.run_with_taps(input, &names).unwrap();
        let volume = image.repeat(depth);
        for inflation in [Inflation::Mean, Inflation::Center] {
            let mut deep = flat.clone();
            deep.inflate(inflation).unwrap();
            let architecture = Architecture::new(&deep.config).unwrap();
            let padded = touched(&architecture, depth);
            let predictor = Predictor::new(&deep.config, &deep.state).unwrap();
            let input = Input {
                data: &volume,
                batch: 1,
                spatial: [depth, height, width],
            };
            let found = predictor.run_with_taps(input, &names).unwrap();
            for (wide, own) in found.taps.iter().zip(&expected.taps) {
                let layer = match wide.name.as_str() {
                    "relu5" => architecture
                        .layers()
                        .iter()
                        .position(|l| l.name == "features.relu5")
                        .unwrap(),
                    stage => {
                        let stage = architecture
                            .stages()
                            .iter()
                            .position(|s| s.name == stage)
                            .unwrap();
                        architecture.stage_output(stage)
                    }
                };
                let padded = &padded[layer];
                assert_eq!(padded.len(), wide.shape[1], "{}", wide.name);
                assert!(padded[0], "{}: the first slice reads padding", wide.name);
                let inner = padded.iter().filter(|t| !**t).count();
                assert!(inner > 0, "{}: nothing is inside", wide.name);
                let tolerance = Tolerance::of_peak(&own.data, 2e-5);
                for (z, slice) in wide.data.chunks_exact(own.data.len()).enumerate() {
                    let name = format!("{inflation:?} {} slice {z}", wide.name);
                    if inflation == Inflation::Center || !padded[z] {
                        assert_close(slice, &own.data, tolerance, &name);
                    } else if z == 0 {
                        let near = densenet_testkit::compare(slice, &own.data, tolerance, &name);
                        assert!(near.is_err(), "{name}: the padding changes nothing");
                    }
                }
            }
            let tolerance = Tolerance::of_peak(&expected.logits, 2e-5);
            let logits =
                densenet_testkit::compare(&found.logits, &expected.logits, tolerance, "logits");
            match inflation {
                Inflation::Center => drop(logits.unwrap()),
                Inflation::Mean => drop(logits.unwrap_err()),
            }
        }
    }
}

/// With repeated kernels the logits come nearer as the ends of the last map weigh less: their distance falls as one over
/// the number of slices.
#[test]
fn deeper_volumes_come_nearer() {
    let config = DenseNetConfig {
        growth_rate: 6,
        block_config: vec![1, 2],
        num_init_features: 10,
        num_classes: 5,
        bn_size: 2,
        ..preset("densenet121").unwrap().config(2).unwrap()
    };
    let shape = [1, 3, 33, 33];
    let image = channels_last(&generate_input(&shape, 9, 0), &shape);
    let mut model = model(&config);
    fn input(data: &[f32], depth: usize) -> Input<'_> {
        Input {
            data,
            batch: 1,
            spatial: [depth, 33, 33],
        }
    }
    let flat = Predictor::new(&model.config, &model.state).unwrap();
    let expected = flat.run(input(&image, 1)).unwrap();
    model.inflate(Inflation::Mean).unwrap();
    let deep = Predictor::new(&model.config, &model.state).unwrap();
    let distance = |depth: usize| {
        let volume = image.repeat(depth);
        let logits = deep.run(input(&volume, depth)).unwrap();
        let pairs = logits.iter().zip(&expected);
        pairs.fold(0.0f32, |m, (a, b)| m.max((a - b).abs()))
    };
    let (near, far) = (distance(256), distance(64));
    println!("64 slices: {far}, 256 slices: {near}");
    assert!((far / near - 4.0).abs() < 0.8, "{far} {near}");
}
