//! The reference against PyTorch: logits, stage outputs, loss, every gradient, running statistics, ten optimiser steps.
//!
//! Evaluation runs every case of at most [`MAX_MACS`] multiply-adds, which is all but the largest inputs of the large
//! presets; a plain f64 loop would take minutes over those. The CPU network is tested on all of them.

use std::collections::BTreeMap;

use densenet_reference::{
    CrossEntropy, Network, Parameters, Tensor, Training,
    optimizer::{AdamW, Sgd},
};
use densenet_spec::preset;
use densenet_testkit::{
    Generated, GoldenTensor, LogitsCase, Tolerance, TrainingCase, assert_close, compare,
    compare_shapes, goldens,
};

/// About a second of the reference.
const MAX_MACS: u64 = 700_000_000;

/// Bound for f64 results, relative to each tensor's peak: sums of at most some 10⁵ terms in another order than
/// PyTorch's, a few layers deep: 10⁵ · 2.2e-16 grows to at most 1e-9.
const F64: f64 = 1e-9;

/// The same for f64 results that were stored as f32, whose rounding is half an ulp: 6e-8.
const STORED_AS_F32: f64 = 1.2e-7;

fn parameters(generated: Vec<Generated>) -> Parameters {
    let to_f64 = |data: Vec<f32>| data.into_iter().map(f64::from).collect();
    generated
        .into_iter()
        .map(|p| (p.name, to_f64(p.data)))
        .collect()
}

fn tensor(shape: &[usize], spatial: [usize; 3], data: &[f32]) -> Tensor {
    let data = data.iter().map(|&v| v as f64).collect();
    Tensor::new(shape[0], shape[1], spatial, data)
}

fn shape(tensor: &Tensor, dims: usize) -> Vec<usize> {
    let mut shape = vec![tensor.batch, tensor.channels];
    shape.extend(&tensor.spatial[3 - dims..]);
    shape
}

/// Compares a set of named tensors and reports every one that differs.
///
/// A tensor whose true value is 0 (the gradient of a shift that every later norm removes) has no peak to speak of; there
/// a thousandth of the bound is taken of its group's peak.
fn assert_all(
    case: &str,
    expected: &[(String, GoldenTensor)],
    actual: impl Fn(&str) -> Vec<f64>,
    share_of_peak: f64,
) {
    let failures: Vec<String> = expected
        .iter()
        .filter_map(|(name, expected)| {
            let mut tolerance = Tolerance::of_peak(&expected.data, share_of_peak);
            tolerance.atol += 1e-3 * share_of_peak * expected.group_peak;
            let found = compare(&actual(name), &expected.data, tolerance, name);
            found.err().map(|mismatch| mismatch.to_string())
        })
        .collect();
    assert!(failures.is_empty(), "{case}:\n{}", failures.join("\n"));
}

fn evaluate(case: &LogitsCase) {
    let network = Network::new(&case.architecture(), parameters(case.parameters())).unwrap();
    let input = tensor(&case.input_shape, case.spatial(), &case.input());
    let mut outputs = BTreeMap::new();
    let logits = network
        .forward_with(&input, |layer, y| {
            outputs.insert(layer.name.clone(), y.clone());
        })
        .unwrap();
    let bound = Tolerance::of_peak(&case.logits.data, F64);
    assert_close(&logits.data, &case.logits.data, bound, &case.name);
    let architecture = case.architecture();
    for (stage, expected) in &case.taps {
        let name = format!("{} {stage}", case.name);
        let index = architecture
            .stages()
            .iter()
            .position(|s| s.name == *stage)
            .unwrap();
        let layer = &architecture.layers()[architecture.stage_output(index)];
        let found = &outputs[&layer.name];
        let dims = case.config.spatial_dims;
        compare_shapes(&shape(found, dims), &expected.shape, &name).unwrap();
        let bound = Tolerance::of_peak(&expected.data, STORED_AS_F32);
        assert_close(&found.data, &expected.data, bound, &name);
    }
}

#[test]
fn logits_and_stage_outputs_are_pytorchs() {
    let goldens = goldens();
    let cost = |case: &LogitsCase| {
        let trace = case.architecture().trace(case.spatial()).unwrap();
        trace.macs() * case.batch() as u64
    };
    let cases: Vec<_> = goldens
        .logits
        .iter()
        .filter(|c| cost(c) <= MAX_MACS)
        .collect();
    // Both ranks, both stems, with and without bottleneck, both orders, and the case with torchvision's stage outputs.
    for dims in [2, 3] {
        let small = |c: &LogitsCase| c.config.stem.name(dims) == Some("small");
        for (bottleneck, small_stem) in [(true, true), (false, true), (true, false)] {
            assert!(
                cases.iter().any(|c| c.config.spatial_dims == dims
                    && (c.config.bn_size > 0) == bottleneck
                    && small(c) == small_stem),
                "no {dims}-D case with bottleneck {bottleneck} and small stem {small_stem}"
            );
        }
    }
    assert!(cases.iter().any(|c| c.name == "densenet121-2d-32x32-taps"));
    for case in cases {
        evaluate(case);
    }
}

#[test]
fn preset_cases_are_the_presets() {
    let goldens = goldens();
    for case in &goldens.logits {
        if let Some(name) = &case.preset {
            let expected = preset(name)
                .unwrap()
                .config(case.config.spatial_dims)
                .unwrap();
            assert_eq!(case.config, expected, "{}", case.name);
        }
    }
    // Every preset has a case in 2-D and in 3-D.
    for preset in densenet_spec::PRESETS {
        for dims in [2, 3] {
            assert!(
                goldens
                    .logits
                    .iter()
                    .any(|c| c.preset.as_deref() == Some(preset.name)
                        && c.config.spatial_dims == dims),
                "{} in {dims}-D",
                preset.name
            );
        }
    }
}

#[test]
fn a_training_step_is_pytorchs() {
    for case in &goldens().training {
        let mut network =
            Network::new(&case.architecture(), parameters(case.parameters())).unwrap();
        let input = tensor(&case.input_shape, case.spatial(), &case.input(0));
        let tape = network.forward_train(&input, &Training::default()).unwrap();
        let loss = cross_entropy(case)
            .forward(tape.logits(), &case.labels(0))
            .unwrap();
        let gradients = network.backward(&tape, &loss.grad_logits).unwrap();
        network.update_running_statistics(&tape);

        let of_peak = |expected: &GoldenTensor| Tolerance::of_peak(&expected.data, F64);
        let name = |what: &str| format!("{} {what}", case.name);
        let (logits, grad_input) = (&case.logits, &case.grad_input);
        assert_close(
            &tape.logits().data,
            &logits.data,
            of_peak(logits),
            &name("logits"),
        );
        assert_close(
            &[loss.value],
            &case.loss.data,
            of_peak(&case.loss),
            &name("loss"),
        );
        assert_close(
            &gradients.input.data,
            &grad_input.data,
            of_peak(grad_input),
            &name("grad_input"),
        );
        assert_eq!(
            gradients.parameters.len(),
            case.gradients.len(),
            "{}",
            case.name
        );
        assert_all(
            &case.name,
            &case.gradients,
            |n| gradients.parameters[n].clone(),
            F64,
        );
        assert_all(
            &case.name,
            &case.running,
            |n| network.parameters()[n].clone(),
            F64,
        );
    }
}

#[test]
fn ten_steps_of_sgd_are_pytorchs() {
    for case in &goldens().training {
        let golden = &case.sgd;
        let sgd = Sgd {
            lr: golden.lr,
            momentum: golden.momentum,
            nesterov: golden.nesterov,
            weight_decay: golden.weight_decay,
        };
        let mut velocity = Parameters::new();
        let (losses, network) = train(
            case,
            golden.losses.data.len(),
            |_, name, weight, gradient| {
                let velocity = velocity
                    .entry(name.into())
                    .or_insert_with(|| vec![0.0; weight.len()]);
                sgd.step(weight, gradient, velocity);
            },
        );
        let bound = Tolerance::of_peak(&golden.losses.data, F64);
        assert_close(
            &losses,
            &golden.losses.data,
            bound,
            &format!("{} losses", case.name),
        );
        assert_all(
            &case.name,
            &golden.state,
            |n| network.parameters()[n].clone(),
            STORED_AS_F32,
        );
    }
}

#[test]
fn ten_steps_of_adamw_are_pytorchs() {
    for case in &goldens().training {
        let golden = &case.adamw;
        let adamw = AdamW {
            lr: golden.lr,
            beta1: golden.beta1,
            beta2: golden.beta2,
            eps: golden.eps,
            weight_decay: golden.weight_decay,
        };
        let (mut first, mut second) = (Parameters::new(), Parameters::new());
        let (losses, network) = train(
            case,
            golden.losses.data.len(),
            |t, name, weight, gradient| {
                let zeros = || vec![0.0; weight.len()];
                let first = first.entry(name.into()).or_insert_with(zeros);
                let second = second.entry(name.into()).or_insert_with(zeros);
                adamw.step(t, weight, gradient, (first, second));
            },
        );
        let bound = Tolerance::of_peak(&golden.losses.data, F64);
        assert_close(
            &losses,
            &golden.losses.data,
            bound,
            &format!("{} losses", case.name),
        );
        assert_all(
            &case.name,
            &golden.state,
            |n| network.parameters()[n].clone(),
            STORED_AS_F32,
        );
    }
}

fn cross_entropy(case: &TrainingCase) -> CrossEntropy {
    CrossEntropy {
        label_smoothing: case.label_smoothing,
        class_weights: Vec::new(),
    }
}

/// Trains on batch t in step t; `update` gets the step from 1, a name, its values and their gradient.
fn train(
    case: &TrainingCase,
    steps: usize,
    mut update: impl FnMut(i32, &str, &mut [f64], &[f64]),
) -> (Vec<f64>, Network) {
    let mut network = Network::new(&case.architecture(), parameters(case.parameters())).unwrap();
    let mut losses = Vec::new();
    for step in 0..steps {
        let input = tensor(&case.input_shape, case.spatial(), &case.input(step));
        let tape = network.forward_train(&input, &Training::default()).unwrap();
        let loss = cross_entropy(case)
            .forward(tape.logits(), &case.labels(step))
            .unwrap();
        let gradients = network.backward(&tape, &loss.grad_logits).unwrap();
        network.update_running_statistics(&tape);
        for (name, gradient) in &gradients.parameters {
            let weight = network.parameter_mut(name).unwrap();
            update(step as i32 + 1, name, weight, gradient);
        }
        losses.push(loss.value);
    }
    (losses, network)
}
