//! The whole network against central differences, and its refusals.
//!
//! A tiny step keeps the differences on one side of every kink: the networks here have at most some ten thousand
//! pre-activations of order 1, the nearest to zero about 1e-5 away, and moving one weight by 1e-6 moves a pre-activation
//! by a like amount. Where a kink is crossed all the same, the two one-sided differences disagree; [`differences`]
//! notices, and such elements, counted and few, are left out.

use densenet_reference::{CrossEntropy, Network, Parameters, ReferenceError, Tensor, Training};
use densenet_spec::{Architecture, ConcatOrder, DenseNetConfig, ParameterKind, Stem};
use densenet_testkit::{
    Tolerance, assert_close, generate_input, generate_labels, generate_parameters,
};

const SEED: u64 = 17;
const STEP: f64 = 1e-6;

/// Bound on the error of a difference: rounding of a loss of order 1 over the step, 8 · 2.2e-16 · 10 / 1e-6 ≈ 2e-8 for
/// sums of ten such terms; truncation is far below.
const BOUND: f64 = 1e-7;

fn base(dims: usize) -> DenseNetConfig {
    DenseNetConfig {
        growth_rate: 3,
        block_config: vec![2, 2],
        num_init_features: 4,
        bn_size: 2,
        compression: 0.5,
        drop_rate: 0.0,
        num_classes: 3,
        in_channels: 2,
        spatial_dims: dims,
        stem: Stem::small(dims),
        final_norm: true,
        concat_order: ConcatOrder::OldNew,
        bn_eps: 1e-5,
        bn_momentum: 0.1,
    }
}

struct Case {
    network: Network,
    input: Tensor,
    labels: Vec<usize>,
    training: Training,
    loss: CrossEntropy,
}

impl Case {
    fn new(config: &DenseNetConfig, batch: usize, spatial: [usize; 3]) -> Self {
        let architecture = Architecture::new(config).unwrap();
        let parameters: Parameters = generate_parameters(&architecture, SEED)
            .into_iter()
            .map(|p| (p.name, p.data.into_iter().map(f64::from).collect()))
            .collect();
        let shape = [
            batch,
            config.in_channels,
            spatial[0],
            spatial[1],
            spatial[2],
        ];
        let data = generate_input(&shape, SEED, 0)
            .into_iter()
            .map(f64::from)
            .collect();
        Case {
            network: Network::new(&architecture, parameters).unwrap(),
            input: Tensor::new(batch, config.in_channels, spatial, data),
            labels: generate_labels(batch, config.num_classes, SEED, 0),
            training: Training::default(),
            loss: CrossEntropy {
                label_smoothing: 0.1,
                class_weights: vec![],
            },
        }
    }

    fn loss_of(&self, network: &Network, input: &Tensor) -> f64 {
        let tape = network.forward_train(input, &self.training).unwrap();
        self.loss
            .forward(tape.logits(), &self.labels)
            .unwrap()
            .value
    }

    /// Every gradient against differences: all elements of short tensors, a few spread over long ones.
    fn check(&self, name: &str) {
        let tape = self
            .network
            .forward_train(&self.input, &self.training)
            .unwrap();
        let loss = self.loss.forward(tape.logits(), &self.labels).unwrap();
        let gradients = self.network.backward(&tape, &loss.grad_logits).unwrap();
        let (mut checked, mut kinks) = (0, 0);
        let mut compare =
            |what: &str, values: &[f64], gradient: &[f64], f: &dyn Fn(&[f64]) -> f64| {
                assert_eq!(values.len(), gradient.len(), "{name}: {what}");
                let (indices, found) = differences(f, loss.value, values);
                kinks += found.iter().filter(|d| d.is_none()).count();
                for (i, difference) in indices.into_iter().zip(found) {
                    checked += 1;
                    if let Some(difference) = difference {
                        let bound = Tolerance::absolute(BOUND);
                        assert_close(
                            &[gradient[i]],
                            &[difference],
                            bound,
                            &format!("{name}: {what}[{i}]"),
                        );
                    }
                }
            };
        compare("input", &self.input.data, &gradients.input.data, &|v| {
            let input = Tensor {
                data: v.to_vec(),
                ..self.input.clone()
            };
            self.loss_of(&self.network, &input)
        });
        let learned = self.network.architecture().parameters().iter();
        let learned: Vec<_> = learned.filter(|p| p.kind.is_learned()).collect();
        assert_eq!(learned.len(), gradients.parameters.len(), "{name}");
        for p in learned {
            let (values, gradient) = (
                &self.network.parameters()[&p.name],
                &gradients.parameters[&p.name],
            );
            compare(&p.name, values, gradient, &|v| {
                let mut network = self.network.clone();
                network.parameter_mut(&p.name).unwrap().copy_from_slice(v);
                self.loss_of(&network, &self.input)
            });
        }
        assert!(
            kinks * 50 <= checked,
            "{name}: {kinks} of {checked} differences cross a kink"
        );
    }
}

/// Central differences at up to 12 places; none where the two one-sided ones disagree, which is a kink in between.
fn differences(
    f: &dyn Fn(&[f64]) -> f64,
    center: f64,
    x: &[f64],
) -> (Vec<usize>, Vec<Option<f64>>) {
    let indices: Vec<usize> = (0..x.len()).step_by(x.len().div_ceil(12)).collect();
    let mut moved = x.to_vec();
    let mut at = |i: usize, by: f64| {
        moved[i] = x[i] + by;
        let value = f(&moved);
        moved[i] = x[i];
        value
    };
    let found = indices.iter().map(|&i| {
        let (above, below) = (at(i, STEP), at(i, -STEP));
        let (right, left) = ((above - center) / STEP, (center - below) / STEP);
        // A smooth loss bends by |f''| · STEP between the two; second derivatives here stay below 100.
        ((right - left).abs() < 100.0 * STEP).then(|| (above - below) / (2.0 * STEP))
    });
    let found = found.collect();
    (indices, found)
}

#[test]
fn gradients_match_differences_in_2d() {
    let config = base(2);
    Case::new(&config, 3, [1, 6, 5]).check("bottleneck");
    let plain = DenseNetConfig {
        bn_size: 0,
        compression: 1.0,
        ..config.clone()
    };
    Case::new(&plain, 3, [1, 5, 6]).check("plain");
    let order = DenseNetConfig {
        concat_order: ConcatOrder::NewOld,
        ..config.clone()
    };
    Case::new(&order, 3, [1, 6, 5]).check("[new, old]");
    let variant = DenseNetConfig {
        concat_order: ConcatOrder::NewOld,
        ..plain
    };
    Case::new(
        &DenseNetConfig {
            final_norm: false,
            ..variant
        },
        3,
        [1, 5, 5],
    )
    .check("plain [new, old], no final norm");
    let imagenet = DenseNetConfig {
        stem: Stem::imagenet(2),
        ..config
    };
    Case::new(&imagenet, 3, [1, 17, 15]).check("imagenet stem");
}

#[test]
fn gradients_match_differences_in_3d() {
    let config = DenseNetConfig {
        in_channels: 1,
        ..base(3)
    };
    Case::new(&config, 2, [3, 4, 5]).check("bottleneck");
    let plain = DenseNetConfig {
        bn_size: 0,
        concat_order: ConcatOrder::NewOld,
        ..config.clone()
    };
    Case::new(&plain, 2, [4, 3, 5]).check("plain [new, old]");
    let video = Stem {
        kernel: [3, 5, 5],
        stride: [1, 2, 2],
        norm: true,
        pool: true,
    };
    Case::new(
        &DenseNetConfig {
            stem: video,
            ..config
        },
        2,
        [5, 9, 11],
    )
    .check("video stem");
}

#[test]
fn gradients_match_differences_with_dropout_and_frozen_stages() {
    let config = DenseNetConfig {
        drop_rate: 0.3,
        ..base(2)
    };
    let mut case = Case::new(&config, 3, [1, 6, 5]);
    case.training.frozen = ["stem", "denseblock1", "norm5"].map(String::from).into();
    case.training.keep = masks(&case.network, 3, [1, 6, 5]);
    case.check("dropout, frozen");
}

/// Masks that drop every third element.
fn masks(
    network: &Network,
    batch: usize,
    spatial: [usize; 3],
) -> std::collections::BTreeMap<String, Vec<bool>> {
    let architecture = network.architecture();
    let trace = architecture.trace(spatial).unwrap();
    let layers = architecture.layers().iter().zip(&trace.layers);
    layers
        .filter(|(layer, _)| layer.op == densenet_spec::Op::Dropout)
        .map(|(layer, shape)| {
            let len = batch * shape.channels * shape.spatial.iter().product::<usize>();
            (layer.name.clone(), (0..len).map(|i| i % 3 != 1).collect())
        })
        .collect()
}

#[test]
fn frozen_stages_keep_their_running_statistics() {
    let mut case = Case::new(&base(2), 3, [1, 6, 5]);
    case.training.frozen = ["denseblock1".to_string()].into();
    let tape = case
        .network
        .forward_train(&case.input, &case.training)
        .unwrap();
    let before = case.network.parameters().clone();
    case.network.update_running_statistics(&tape);
    for p in case.network.architecture().parameters() {
        let moved = before[&p.name] != case.network.parameters()[&p.name];
        let expected = !p.kind.is_learned() && !p.name.contains("denseblock1");
        assert_eq!(moved, expected, "{}", p.name);
    }
}

#[test]
fn dropout_does_nothing_in_evaluation() {
    let without = Case::new(&base(2), 2, [1, 6, 5]);
    let with = Case::new(
        &DenseNetConfig {
            drop_rate: 0.5,
            ..base(2)
        },
        2,
        [1, 6, 5],
    );
    let logits = without.network.forward(&without.input).unwrap();
    assert_eq!(with.network.forward(&with.input).unwrap(), logits);
}

#[test]
fn a_sample_does_not_depend_on_its_batch_in_evaluation() {
    let case = Case::new(&base(3), 3, [3, 4, 5]);
    let all = case.network.forward(&case.input).unwrap();
    let per_sample = case.input.data.len() / 3;
    let last = Tensor::new(1, 2, [3, 4, 5], case.input.data[2 * per_sample..].to_vec());
    assert_eq!(case.network.forward(&last).unwrap().data, all.data[6..]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let config = base(2);
    let case = Case::new(&config, 2, [1, 6, 5]);
    let message = |result: Result<Tensor, ReferenceError>| result.unwrap_err().to_string();

    let three = Tensor::zeros(1, 3, [1, 6, 5]);
    assert_eq!(
        message(case.network.forward(&three)),
        "input: 3 channels, the network reads 2"
    );
    let deep = Tensor::zeros(1, 2, [2, 6, 5]);
    assert!(message(case.network.forward(&deep)).contains("depth 1"));
    let small = Tensor::zeros(1, 2, [1, 1, 5]);
    assert!(message(case.network.forward(&small)).contains("too small"));

    let architecture = Architecture::new(&config).unwrap();
    let mut parameters = case.network.parameters().clone();
    parameters.insert("classifier.bias".into(), vec![0.0; 7]);
    let error = Network::new(&architecture, parameters.clone()).unwrap_err();
    assert_eq!(error.to_string(), "classifier.bias: 7 elements, expected 3");
    parameters.remove("classifier.bias");
    let error = Network::new(&architecture, parameters).unwrap_err();
    assert_eq!(error.to_string(), "classifier.bias: 0 elements, expected 3");

    let dropping = Case::new(
        &DenseNetConfig {
            drop_rate: 0.5,
            ..config.clone()
        },
        2,
        [1, 6, 5],
    );
    let error = dropping
        .network
        .forward_train(&dropping.input, &Training::default())
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("denselayer1.dropout: 0 elements"),
        "{error}"
    );

    // One pixel is left after the transition, one image in the batch: nothing to normalise over.
    let one = Case::new(&config, 1, [1, 3, 3]);
    let error = one
        .network
        .forward_train(&one.input, &Training::default())
        .unwrap_err();
    assert!(
        matches!(error, ReferenceError::TooFewValues { ref layer } if layer.contains("denseblock2")),
        "{error}"
    );

    let tape = case
        .network
        .forward_train(&case.input, &case.training)
        .unwrap();
    let error = case.loss.forward(tape.logits(), &[0, 3]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "label 3 of sample 1: the classes are 0 to 2"
    );
    assert!(case.loss.forward(tape.logits(), &[0]).is_err());
    let weighted = CrossEntropy {
        label_smoothing: 0.0,
        class_weights: vec![1.0],
    };
    assert!(weighted.forward(tape.logits(), &[0, 1]).is_err());
    assert!(
        case.network
            .backward(&tape, &Tensor::zeros(2, 4, [1; 3]))
            .is_err()
    );
}

#[test]
fn every_learned_parameter_gets_a_gradient_of_its_length() {
    let case = Case::new(&base(2), 2, [1, 6, 5]);
    let tape = case
        .network
        .forward_train(&case.input, &case.training)
        .unwrap();
    let loss = case.loss.forward(tape.logits(), &case.labels).unwrap();
    let gradients = case.network.backward(&tape, &loss.grad_logits).unwrap();
    for p in case.network.architecture().parameters() {
        let found = gradients.parameters.get(&p.name).map(Vec::len);
        let buffer = matches!(
            p.kind,
            ParameterKind::RunningMean | ParameterKind::RunningVar
        );
        assert_eq!(found, (!buffer).then_some(p.len()), "{}", p.name);
    }
}
