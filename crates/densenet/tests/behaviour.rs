//! What the engine promises beyond the right numbers: the same bits at any thread count and in any batch, every layer's
//! output by name, frozen stages, dropout, and errors instead of panics.

use std::collections::BTreeMap;

use densenet::{
    Dtype, Input, Isa, Network, NetworkError, NetworkOptions, Predictor, PredictorOptions,
    spec::{Architecture, ConcatOrder, DenseNetConfig, Stem, preset},
    weights::{StateDict, Tensor},
};
use densenet_testkit::{
    Tolerance, assert_close, channels_last, generate_input, generate_parameters,
};

/// A small network that has every kind of layer.
fn config(spatial_dims: usize) -> DenseNetConfig {
    DenseNetConfig {
        growth_rate: 12,
        block_config: vec![2, 3],
        num_init_features: 10,
        num_classes: 7,
        ..preset("densenet121").unwrap().config(spatial_dims).unwrap()
    }
}

fn variants() -> Vec<(&'static str, DenseNetConfig)> {
    let plain = DenseNetConfig {
        bn_size: 0,
        stem: Stem::small(2),
        ..config(2)
    };
    let no_pool = Stem {
        pool: false,
        ..Stem::imagenet(3)
    };
    vec![
        ("2-D", config(2)),
        ("3-D", config(3)),
        ("plain", plain.clone()),
        (
            "new first",
            DenseNetConfig {
                concat_order: ConcatOrder::NewOld,
                ..config(2)
            },
        ),
        (
            "plain, new first, no final norm",
            DenseNetConfig {
                concat_order: ConcatOrder::NewOld,
                final_norm: false,
                ..plain
            },
        ),
        (
            "no pool",
            DenseNetConfig {
                stem: no_pool,
                ..config(3)
            },
        ),
        (
            "dropout",
            DenseNetConfig {
                drop_rate: 0.2,
                ..config(2)
            },
        ),
    ]
}

fn state(config: &DenseNetConfig) -> StateDict {
    let mut state = StateDict::new();
    for p in generate_parameters(&Architecture::new(config).unwrap(), 5) {
        state.insert(
            p.name,
            Tensor {
                shape: p.shape,
                data: p.data,
            },
        );
    }
    state
}

/// `batch` samples of side 29 and 31, channels-last.
fn input(config: &DenseNetConfig, batch: usize) -> (Vec<f32>, [usize; 3]) {
    let spatial = if config.spatial_dims == 3 {
        [29, 31, 30]
    } else {
        [1, 33, 30]
    };
    let mut shape = vec![batch, config.in_channels];
    shape.extend(&spatial[3 - config.spatial_dims..]);
    (
        channels_last(&generate_input(&shape, 9, 0), &shape),
        spatial,
    )
}

fn threads<R: Send>(n: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new()
        .num_threads(n)
        .build()
        .unwrap()
        .install(work)
}

/// Large maps pass a few samples at a time; neither that nor the batch nor the threads change a bit, in f32 or bf16.
#[test]
fn groups_of_samples_change_nothing() {
    let config = DenseNetConfig {
        num_init_features: 32,
        ..config(2)
    };
    let (spatial, batch) = ([1, 420, 390], 5);
    let shape = [batch, config.in_channels, spatial[1], spatial[2]];
    let data = channels_last(&generate_input(&shape, 9, 0), &shape);
    let state = state(&config);
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let isa = Isa::active().unwrap();
        let options = PredictorOptions { isa, dtype };
        let predictor = Predictor::with_options(&config, &state, &options).unwrap();
        let run = |first: usize, batch: usize| {
            let each = data.len() / 5;
            let data = &data[first * each..(first + batch) * each];
            let input = Input {
                data,
                batch,
                spatial,
            };
            predictor.run(input).unwrap()
        };
        let together = threads(3, || run(0, batch));
        let alone: Vec<f32> = (0..batch).flat_map(|n| threads(2, || run(n, 1))).collect();
        assert_eq!(together, alone, "{dtype:?}");
    }
}

/// A single run that packs weights as it goes gives the same logits and layers as a predictor that keeps them.
#[test]
fn running_once_changes_nothing() {
    for (name, config) in variants() {
        let state = state(&config);
        for (batch, dtype) in [(1, Dtype::F32), (1, Dtype::Bf16), (3, Dtype::F32)] {
            let (data, spatial) = input(&config, batch);
            let input = Input {
                data: &data,
                batch,
                spatial,
            };
            let isa = Isa::active().unwrap();
            let options = PredictorOptions { isa, dtype };
            let kept = Predictor::with_options(&config, &state, &options).unwrap();
            let taps = ["denseblock1", "classifier"];
            let expected = kept.run_with_taps(input, &taps).unwrap();
            let once = Predictor::run_once(&config, state.clone(), &options, input, &taps);
            assert_eq!(once.unwrap(), expected, "{name} {batch} {dtype:?}");
        }
        let options = PredictorOptions {
            isa: Isa::PORTABLE,
            dtype: Dtype::F32,
        };
        let (data, spatial) = input(&config, 1);
        let input = Input {
            data: &data,
            batch: 1,
            spatial,
        };
        let nothing = Predictor::run_once(&config, StateDict::new(), &options, input, &[]);
        assert_eq!(nothing.unwrap_err().exit_code(), 4);
    }
}

/// bf16 keeps eight bits of every factor: logits agree to about a percent of their size.
#[test]
fn bf16_is_close_to_f32() {
    for (name, config) in variants() {
        let (data, spatial) = input(&config, 2);
        let input = Input {
            data: &data,
            batch: 2,
            spatial,
        };
        let state = state(&config);
        for &isa in Isa::available() {
            let [wide, narrow] = [Dtype::F32, Dtype::Bf16].map(|dtype| {
                let options = PredictorOptions { isa, dtype };
                let predictor = Predictor::with_options(&config, &state, &options).unwrap();
                assert_eq!(predictor.dtype(), dtype);
                predictor.run(input).unwrap()
            });
            let size = wide.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let pairs = wide.iter().zip(&narrow);
            let worst = pairs.fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(worst > 0.0, "{name}: nothing was rounded");
            assert!(
                worst < 0.02 * size,
                "{name} {}: {worst} of {size}",
                isa.name()
            );
        }
    }
}

/// So does every layer that can be asked for, whatever the run takes away before it rounds.
#[test]
fn layers_in_bf16_are_close_to_f32() {
    for (name, config) in variants() {
        let (data, spatial) = input(&config, 1);
        let input = Input {
            data: &data,
            batch: 1,
            spatial,
        };
        let state = state(&config);
        let architecture = Architecture::new(&config).unwrap();
        let layers = architecture.layers().iter();
        let names: Vec<&str> = layers.map(|layer| layer.name.as_str()).collect();
        let [wide, narrow] = [Dtype::F32, Dtype::Bf16].map(|dtype| {
            let isa = Isa::active().unwrap();
            let options = PredictorOptions { isa, dtype };
            let predictor = Predictor::with_options(&config, &state, &options).unwrap();
            predictor.run_with_taps(input, &names).unwrap().taps
        });
        for (wide, narrow) in wide.iter().zip(&narrow) {
            let squares = |value: &dyn Fn(f32, f32) -> f32| -> f32 {
                let pairs = wide.data.iter().zip(&narrow.data);
                pairs.map(|(a, b)| value(*a, *b).powi(2)).sum()
            };
            let error = (squares(&|a, b| a - b) / squares(&|a, _| a)).sqrt();
            assert!(error < 0.01, "{name}: {}: {error}", wide.name);
        }
    }
}

#[test]
fn the_same_bits_at_any_thread_count() {
    for (name, config) in variants() {
        let (data, spatial) = input(&config, 3);
        let state = state(&config);
        let run = || {
            let input = Input {
                data: &data,
                batch: 3,
                spatial,
            };
            let logits = Predictor::new(&config, &state).unwrap().run(input).unwrap();
            let mut network = Network::new(&config, &state, &NetworkOptions::default()).unwrap();
            for step in 0..2 {
                let logits = network.forward(input, step).unwrap().to_vec();
                network.backward(&logits).unwrap();
                network.update_running_statistics();
            }
            (
                logits,
                network.gradients().to_vec(),
                network.buffers().to_vec(),
            )
        };
        let one = threads(1, run);
        for n in [2, 3, 8] {
            assert!(
                threads(n, run) == one,
                "{name}: {n} threads give other bits than one"
            );
        }
    }
}

#[test]
fn a_sample_does_not_depend_on_its_batch() {
    for (name, config) in variants() {
        let predictor = Predictor::new(&config, &state(&config)).unwrap();
        let (data, spatial) = input(&config, 7);
        let all = predictor
            .run(Input {
                data: &data,
                batch: 7,
                spatial,
            })
            .unwrap();
        let sample = data.len() / 7;
        for size in [1, 2] {
            for start in (0..7 - size).step_by(size) {
                let part = &data[start * sample..(start + size) * sample];
                let logits = predictor
                    .run(Input {
                        data: part,
                        batch: size,
                        spatial,
                    })
                    .unwrap();
                assert_eq!(
                    logits,
                    all[start * 7..(start + size) * 7],
                    "{name}: samples from {start}"
                );
            }
        }
    }
}

#[test]
fn every_layer_can_be_tapped() {
    for (name, config) in variants() {
        let (batch, dims) = (2, config.spatial_dims);
        let (data, spatial) = input(&config, batch);
        let architecture = Architecture::new(&config).unwrap();
        let state = state(&config);
        let parameters = state.iter().map(|(n, t)| {
            (
                n.to_string(),
                t.data.iter().map(|v| f64::from(*v)).collect(),
            )
        });
        let reference =
            densenet_reference::Network::new(&architecture, parameters.collect()).unwrap();
        let mut shape = vec![batch, config.in_channels];
        shape.extend(&spatial[3 - dims..]);
        let first: Vec<f64> = generate_input(&shape, 9, 0)
            .iter()
            .map(|v| f64::from(*v))
            .collect();
        let tensor = densenet_reference::Tensor::new(batch, config.in_channels, spatial, first);
        let mut expected = BTreeMap::new();
        reference
            .forward_with(&tensor, |layer, y| {
                expected.insert(layer.name.clone(), y.clone());
            })
            .unwrap();
        let names: Vec<&str> = architecture
            .layers()
            .iter()
            .map(|l| l.name.as_str())
            .collect();
        let predictor = Predictor::new(&config, &state).unwrap();
        let output = predictor
            .run_with_taps(
                Input {
                    data: &data,
                    batch,
                    spatial,
                },
                &names,
            )
            .unwrap();
        assert_eq!(output.taps.len(), names.len(), "{name}");
        for (layer, tap) in architecture.layers().iter().zip(&output.taps) {
            let expected = &expected[&layer.name];
            let [d, h, w] = expected.spatial;
            assert_eq!(
                tap.shape,
                [batch, d, h, w, expected.channels],
                "{name}: {}",
                layer.name
            );
            let shape = [batch, expected.channels, d, h, w];
            let peak = expected.data.iter().fold(1.0f64, |m, v| m.max(v.abs()));
            let bound = Tolerance::absolute(1e-5 * peak);
            assert_close(
                &tap.data,
                &channels_last(&expected.data, &shape),
                bound,
                &format!("{name}: {}", layer.name),
            );
        }
    }
}

#[test]
fn the_pyramid_has_every_scale() {
    let config = preset("densenet121").unwrap().config(2).unwrap();
    let predictor = Predictor::new(&config, &state(&config)).unwrap();
    let data = vec![0.1; 64 * 64 * 3];
    let features = predictor
        .features(Input {
            data: &data,
            batch: 1,
            spatial: [1, 64, 64],
        })
        .unwrap();
    let shapes: Vec<_> = features
        .iter()
        .map(|f| (f.name.as_str(), f.shape[2], f.shape[4]))
        .collect();
    assert_eq!(
        shapes,
        [
            ("stem", 16, 64),
            ("denseblock1", 16, 256),
            ("denseblock2", 8, 512),
            ("denseblock3", 4, 1024),
            ("denseblock4", 2, 1024),
            ("relu5", 2, 1024)
        ]
    );
    assert!(features[5].data.iter().all(|v| *v >= 0.0));
}

#[test]
fn frozen_stages_stay_as_they_are() {
    let config = config(2);
    let (data, spatial) = input(&config, 3);
    let state = state(&config);
    let frozen_sets: [&[&str]; 4] = [
        &["stem", "denseblock1"],
        &["denseblock2"],
        &["features"],
        &["transition1", "norm5", "classifier"],
    ];
    for frozen in frozen_sets {
        let options = NetworkOptions {
            frozen: frozen.iter().map(|s| s.to_string()).collect(),
            ..NetworkOptions::default()
        };
        let mut network = Network::new(&config, &state, &options).unwrap();
        let input = Input {
            data: &data,
            batch: 3,
            spatial,
        };
        let logits = network.forward(input, 0).unwrap().to_vec();
        network.backward(&logits).unwrap();
        network.update_running_statistics();
        // The reference freezes the same stages.
        let architecture = Architecture::new(&config).unwrap();
        let parameters = state.iter().map(|(n, t)| {
            (
                n.to_string(),
                t.data.iter().map(|v| f64::from(*v)).collect(),
            )
        });
        let reference =
            densenet_reference::Network::new(&architecture, parameters.collect()).unwrap();
        let mut shape = vec![3, config.in_channels];
        shape.extend(&spatial[1..]);
        let first: Vec<f64> = generate_input(&shape, 9, 0)
            .iter()
            .map(|v| f64::from(*v))
            .collect();
        let tensor = densenet_reference::Tensor::new(3, config.in_channels, spatial, first);
        let expand = |stages: &[String]| -> Vec<String> {
            match stages.iter().any(|s| s == "features") {
                true => architecture
                    .stages()
                    .iter()
                    .map(|s| s.name.clone())
                    .filter(|s| s != "classifier")
                    .collect(),
                false => stages.to_vec(),
            }
        };
        let training = densenet_reference::Training {
            frozen: expand(&options.frozen).into_iter().collect(),
            ..Default::default()
        };
        let tape = reference.forward_train(&tensor, &training).unwrap();
        assert_close(
            &logits,
            &tape.logits().data,
            Tolerance::absolute(2e-5),
            "logits with frozen stages",
        );
        let gradients = reference.backward(&tape, tape.logits()).unwrap();
        for view in network.views() {
            let found = network
                .gradient_dict()
                .get(&view.name)
                .unwrap()
                .data
                .clone();
            let expected = &gradients.parameters[&view.name];
            if view.trainable {
                let peak = expected.iter().fold(0.1f64, |m, v| m.max(v.abs()));
                assert_close(
                    &found,
                    expected,
                    Tolerance::absolute(1e-4 * peak),
                    &format!("{frozen:?}: {}", view.name),
                );
            } else {
                let touched = network.gradients()[view.range.clone()]
                    .iter()
                    .any(|g| *g != 0.0);
                assert!(!touched, "{frozen:?}: {} has a gradient", view.name);
            }
        }
        let after = network.state_dict();
        for (name, before) in state.iter().filter(|(n, _)| n.contains("running")) {
            let stage = architecture
                .stages()
                .iter()
                .find(|s| name.contains(&format!("{}.", s.name)));
            let in_stem = name.contains("norm0");
            let stage = stage.map_or(if in_stem { "stem" } else { "norm5" }, |s| s.name.as_str());
            let frozen = expand(&options.frozen).iter().any(|f| f == stage);
            let same = after.get(name).unwrap().data == before.data;
            assert_eq!(same, frozen, "{:?}: {name}", options.frozen);
        }
    }
}

#[test]
fn dropout_is_keyed_by_seed_and_step() {
    let config = DenseNetConfig {
        drop_rate: 0.3,
        ..config(2)
    };
    let (data, spatial) = input(&config, 2);
    let state = state(&config);
    let logits = |seed: u64, step: u64| {
        let options = NetworkOptions {
            dropout_seed: seed,
            ..NetworkOptions::default()
        };
        let mut network = Network::new(&config, &state, &options).unwrap();
        network
            .forward(
                Input {
                    data: &data,
                    batch: 2,
                    spatial,
                },
                step,
            )
            .unwrap()
            .to_vec()
    };
    assert_eq!(logits(1, 1), logits(1, 1));
    assert_ne!(logits(1, 1), logits(1, 2));
    assert_ne!(logits(1, 1), logits(2, 1));
}

/// With dropout the gradient is that of the function the masks define: along its own direction, a small step changes
/// the loss by its squared length.
#[test]
fn the_gradient_sees_the_same_masks() {
    let config = DenseNetConfig {
        drop_rate: 0.3,
        ..config(2)
    };
    let (data, spatial) = input(&config, 4);
    let input = Input {
        data: &data,
        batch: 4,
        spatial,
    };
    let mut network = Network::new(&config, &state(&config), &NetworkOptions::default()).unwrap();
    let weights: Vec<f32> = (0..28).map(|i| (i as f32 * 0.7).sin()).collect();
    let loss = |logits: &[f32]| -> f64 {
        logits
            .iter()
            .zip(&weights)
            .map(|(l, w)| f64::from(l * w))
            .sum()
    };
    let before = loss(network.forward(input, 3).unwrap());
    network.backward(&weights).unwrap();
    let gradient = network.gradients().to_vec();
    let square: f64 = gradient.iter().map(|g| f64::from(*g).powi(2)).sum();
    let step = 1e-3 / square.sqrt();
    for (p, g) in network.parameters_mut().iter_mut().zip(&gradient) {
        *p += (step * f64::from(*g)) as f32;
    }
    let after = loss(network.forward(input, 3).unwrap());
    let ratio = (after - before) / (step * square);
    assert!(
        (ratio - 1.0).abs() < 0.05,
        "loss rose {ratio} times as far as the gradient says"
    );
}

#[test]
fn wrong_use_is_an_error() {
    let config = config(2);
    let good = state(&config);
    let predictor = Predictor::new(&config, &good).unwrap();
    let message = |input| predictor.run(input).unwrap_err().to_string();
    assert!(
        message(Input {
            data: &[0.0; 30],
            batch: 1,
            spatial: [1, 5, 2]
        })
        .contains("smallest input that works is")
    );
    assert!(
        message(Input {
            data: &[0.0; 30],
            batch: 1,
            spatial: [1, 40, 40]
        })
        .contains("needs 4800 values, found 30")
    );
    assert!(
        message(Input {
            data: &[],
            batch: 1,
            spatial: [2, 40, 40]
        })
        .contains("depth 1")
    );
    assert!(
        predictor
            .run(Input {
                data: &[],
                batch: 0,
                spatial: [1, 40, 40]
            })
            .unwrap()
            .is_empty()
    );
    let data = vec![0.0; 40 * 40 * 3];
    let input = Input {
        data: &data,
        batch: 1,
        spatial: [1, 40, 40],
    };
    let error = predictor
        .run_with_taps(input, &["denseblok1"])
        .unwrap_err()
        .to_string();
    assert!(error.contains("did you mean denseblock1?"), "{error}");
    let mut missing = StateDict::new();
    for (name, tensor) in good.iter().skip(1) {
        missing.insert(name, tensor.clone());
    }
    let error = Predictor::new(&config, &missing).err().unwrap();
    assert!(
        error
            .to_string()
            .contains("features.conv0.weight: needs shape [10, 3, 7, 7], found none"),
        "{error}"
    );
    assert_eq!(error.exit_code(), 4);
    let mut network = Network::new(&config, &good, &NetworkOptions::default()).unwrap();
    assert!(matches!(
        network.backward(&[0.0; 7]),
        Err(NetworkError::Backward { expected: 0, .. })
    ));
    network.forward(input, 0).unwrap();
    assert!(matches!(
        network.backward(&[0.0; 6]),
        Err(NetworkError::Backward {
            expected: 7,
            found: 6
        })
    ));
    let options = NetworkOptions {
        frozen: vec!["denseblock9".into()],
        ..NetworkOptions::default()
    };
    let error = Network::new(&config, &good, &options)
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("did you mean denseblock"), "{error}");
    // A 1×1 map of one sample has one value per channel.
    let small = Architecture::new(&config).unwrap().min_input();
    let data = vec![0.5; small.iter().product::<usize>() * 3];
    let input = Input {
        data: &data,
        batch: 1,
        spatial: small,
    };
    assert!(matches!(
        network.forward(input, 0),
        Err(NetworkError::SingleValue { .. })
    ));
    assert!(predictor.run(input).is_ok());
}

#[test]
fn a_broken_value_reaches_the_logits() {
    let config = config(2);
    let predictor = Predictor::new(&config, &state(&config)).unwrap();
    let (mut data, spatial) = input(&config, 2);
    let half = data.len() / 2;
    data[half + 5] = f32::NAN;
    let logits = predictor
        .run(Input {
            data: &data,
            batch: 2,
            spatial,
        })
        .unwrap();
    assert!(logits[..7].iter().all(|v| v.is_finite()));
    assert!(logits[7..].iter().any(|v| v.is_nan()));
}
