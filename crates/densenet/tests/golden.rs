//! The CPU network against PyTorch: logits and stage outputs of every preset, and for small networks the loss, every
//! gradient by name, the running statistics, and ten steps of two optimisers; for every instruction set.

use densenet::{
    Input, Isa, Network, NetworkOptions, Predictor, weights::StateDict, weights::Tensor,
};
use densenet_testkit::{
    Generated, GoldenTensor, LogitsCase, Tolerance, TrainingCase, assert_close, channels_last,
    compare, goldens,
};

/// Room for sound orders of summation other than PyTorch's; see `GoldenTensor::tolerance`.
const FACTOR: f64 = 10.0;

fn state(parameters: Vec<Generated>) -> StateDict {
    let mut state = StateDict::new();
    for p in parameters {
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

fn logits_case(case: &LogitsCase, isa: Isa) {
    let predictor = Predictor::with_isa(&case.config, &state(case.parameters()), isa).unwrap();
    let data = channels_last(&case.input(), &case.input_shape);
    let input = Input {
        data: &data,
        batch: case.batch(),
        spatial: case.spatial(),
    };
    let names: Vec<&str> = case.taps.iter().map(|(n, _)| n.as_str()).collect();
    let output = predictor.run_with_taps(input, &names).unwrap();
    let what = format!("{} on {}", case.name, isa.name());
    // The promise to users: within 1e-4 of logits of order 1.
    let peak = case.logits.data.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    assert_close(
        &output.logits,
        &case.logits.data,
        Tolerance::absolute(1e-4 * peak),
        &what,
    );
    let classes = case.config.num_classes;
    for (ours, theirs) in output
        .logits
        .chunks(classes)
        .zip(case.logits.data.chunks(classes))
    {
        let top = |v: &[f64]| (0..v.len()).max_by(|a, b| v[*a].total_cmp(&v[*b])).unwrap();
        let ours: Vec<f64> = ours.iter().map(|v| f64::from(*v)).collect();
        assert_eq!(top(&ours), top(theirs), "{what}: top-1");
    }
    assert_eq!(output.taps.len(), case.taps.len());
    for (tap, (name, expected)) in output.taps.iter().zip(&case.taps) {
        assert_eq!(&tap.name, name);
        let expected_data = channels_last(&expected.data, &expected.shape);
        let bound = expected.tolerance(FACTOR);
        assert_close(&tap.data, &expected_data, bound, &format!("{what}: {name}"));
    }
}

#[test]
fn logits_of_every_preset() {
    let goldens = goldens();
    assert!(goldens.logits.len() > 20);
    for case in &goldens.logits {
        logits_case(case, Isa::available()[0]);
    }
}

#[test]
fn logits_on_every_instruction_set() {
    let goldens = goldens();
    for &isa in &Isa::available()[1..] {
        for case in &goldens.logits {
            let trace = case.architecture().trace(case.spatial()).unwrap();
            if trace.macs() * (case.batch() as u64) < 500_000_000 {
                logits_case(case, isa);
            }
        }
    }
}

/// Mean cross entropy with label smoothing, and its gradient at the logits.
fn cross_entropy(logits: &[f32], labels: &[usize], smoothing: f64) -> (f64, Vec<f32>) {
    let batch = labels.len();
    let classes = logits.len() / batch;
    let (mut loss, mut grad) = (0.0, Vec::new());
    for (row, label) in logits.chunks(classes).zip(labels) {
        let max = row.iter().copied().fold(f32::MIN, f32::max);
        let exp: Vec<f64> = row.iter().map(|v| f64::from(v - max).exp()).collect();
        let sum: f64 = exp.iter().sum();
        for (c, e) in exp.iter().enumerate() {
            let target =
                smoothing / classes as f64 + if c == *label { 1.0 - smoothing } else { 0.0 };
            loss -= target * (f64::from(row[c] - max) - sum.ln()) / batch as f64;
            grad.push(((e / sum - target) / batch as f64) as f32);
        }
    }
    (loss, grad)
}

/// Compares named tensors and lists every one that differs.
fn assert_all(what: &str, expected: &[(String, GoldenTensor)], found: &StateDict) {
    let failures: Vec<String> = expected
        .iter()
        .filter_map(|(name, expected)| {
            let Some(tensor) = found.get(name) else {
                return Some(format!("{name} is missing"));
            };
            let result = compare(
                &tensor.data,
                &expected.data,
                expected.tolerance(FACTOR),
                name,
            );
            result.err().map(|e| e.to_string())
        })
        .collect();
    assert!(failures.is_empty(), "{what}:\n{}", failures.join("\n"));
}

/// Runs step `t`: forward and backward on batch `t`, gradients from zero. Returns the loss.
fn step(network: &mut Network, case: &TrainingCase, t: usize) -> f64 {
    let data = channels_last(&case.input(t), &case.input_shape);
    let input = Input {
        data: &data,
        batch: case.batch(),
        spatial: case.spatial(),
    };
    let logits = network.forward(input, t as u64).unwrap();
    let (loss, grad) = cross_entropy(logits, &case.labels(t), case.label_smoothing);
    network.zero_grad();
    network.backward(&grad).unwrap();
    network.update_running_statistics();
    loss
}

fn network(case: &TrainingCase, isa: Isa, memory_efficient: bool) -> Network {
    let options = NetworkOptions {
        memory_efficient,
        ..NetworkOptions::default()
    };
    Network::with_isa(&case.config, &state(case.parameters()), &options, isa).unwrap()
}

#[test]
fn a_training_step_on_every_instruction_set() {
    for case in &goldens().training {
        for &isa in Isa::available() {
            let what = format!("{} on {}", case.name, isa.name());
            let mut network = network(case, isa, false);
            let loss = step(&mut network, case, 0);
            let bound = case.loss.tolerance(FACTOR);
            assert_close(&[loss], &case.loss.data, bound, &what);
            assert_all(&what, &case.gradients, &network.gradient_dict());
            assert_all(&what, &case.running, &network.state_dict());
        }
    }
}

/// Tiles and fused sums may cost some bits, but only so many: layer by layer, gradients stray from float64 at most four
/// times as far as PyTorch's own float32 does.
#[test]
fn gradients_stray_little_further_than_pytorchs() {
    for case in &goldens().training {
        let mut network = network(case, Isa::available()[0], false);
        step(&mut network, case, 0);
        let found = network.gradient_dict();
        for (name, expected) in &case.gradients {
            let gradient = &found.get(name).unwrap().data;
            let what = format!("{}: {name}", case.name);
            compare(gradient, &expected.data, expected.tolerance(4.0), &what).unwrap();
        }
    }
}

#[test]
fn recomputing_bottlenecks_changes_no_bit() {
    for case in &goldens().training {
        let isa = Isa::available()[0];
        let (mut plain, mut efficient) = (network(case, isa, false), network(case, isa, true));
        for t in 0..2 {
            step(&mut plain, case, t);
            step(&mut efficient, case, t);
            assert_eq!(plain.gradients(), efficient.gradients(), "{}", case.name);
            assert_eq!(plain.buffers(), efficient.buffers(), "{}", case.name);
        }
    }
}

#[test]
fn ten_steps_of_sgd() {
    for case in &goldens().training {
        let mut network = network(case, Isa::available()[0], false);
        let sgd = &case.sgd;
        let mut velocity = vec![0.0f32; network.parameters().len()];
        let mut losses = Vec::new();
        for t in 0..sgd.losses.data.len() {
            losses.push(step(&mut network, case, t));
            let (parameters, gradients) = network.parameters_and_gradients_mut();
            for ((p, g), v) in parameters.iter_mut().zip(gradients).zip(&mut velocity) {
                let g = f64::from(*g) + sgd.weight_decay * f64::from(*p);
                let momentum = if t == 0 {
                    g
                } else {
                    sgd.momentum * f64::from(*v) + g
                };
                *v = momentum as f32;
                let update = if sgd.nesterov {
                    g + sgd.momentum * momentum
                } else {
                    momentum
                };
                *p = (f64::from(*p) - sgd.lr * update) as f32;
            }
        }
        assert_close(
            &losses,
            &sgd.losses.data,
            sgd.losses.tolerance(FACTOR),
            &case.name,
        );
        assert_all(
            &format!("{} after ten SGD steps", case.name),
            &sgd.state,
            &network.state_dict(),
        );
    }
}

#[test]
fn ten_steps_of_adamw() {
    for case in &goldens().training {
        let mut network = network(case, Isa::available()[0], false);
        let adamw = &case.adamw;
        let (mut m, mut v) = (
            vec![0.0f64; network.parameters().len()],
            vec![0.0f64; network.parameters().len()],
        );
        let mut losses = Vec::new();
        for t in 0..adamw.losses.data.len() {
            losses.push(step(&mut network, case, t));
            let corrections = [
                1.0 - adamw.beta1.powi(t as i32 + 1),
                1.0 - adamw.beta2.powi(t as i32 + 1),
            ];
            let (parameters, gradients) = network.parameters_and_gradients_mut();
            for (i, (p, g)) in parameters.iter_mut().zip(gradients).enumerate() {
                let g = f64::from(*g);
                m[i] = adamw.beta1 * m[i] + (1.0 - adamw.beta1) * g;
                v[i] = adamw.beta2 * v[i] + (1.0 - adamw.beta2) * g * g;
                let decayed = f64::from(*p) * (1.0 - adamw.lr * adamw.weight_decay);
                let root = (v[i] / corrections[1]).sqrt() + adamw.eps;
                *p = (decayed - adamw.lr * m[i] / corrections[0] / root) as f32;
            }
        }
        assert_close(
            &losses,
            &adamw.losses.data,
            adamw.losses.tolerance(FACTOR),
            &case.name,
        );
        assert_all(
            &format!("{} after ten AdamW steps", case.name),
            &adamw.state,
            &network.state_dict(),
        );
    }
}
