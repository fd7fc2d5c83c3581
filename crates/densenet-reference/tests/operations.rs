//! Every operation's backward pass against central differences of its forward pass.
//!
//! The loss is Σ r · y with fixed random r, so that ∂L/∂y = r. Inputs stay clear of kinks by construction: values of a
//! rectified or pooled input differ from zero and from each other by far more than the step.

use densenet_reference::{
    CrossEntropy, Tensor,
    op::{
        avg_pool,
        batch_norm::{self, Affine, Statistics},
        concat, conv, dropout, global_avg_pool, linear, max_pool, relu,
    },
};
use densenet_spec::{ConcatOrder, Window};
use densenet_testkit::{
    Distribution, Tolerance, assert_close, central_difference, difference_tolerance, fill,
};

const STEP: f64 = 1e-5;

fn values(name: &str, len: usize) -> Vec<f64> {
    let values = fill(name, len, 5, Distribution::standard());
    values.into_iter().map(f64::from).collect()
}

fn random(name: &str, batch: usize, channels: usize, spatial: [usize; 3]) -> Tensor {
    let len = batch * channels * spatial.iter().product::<usize>();
    Tensor::new(batch, channels, spatial, values(name, len))
}

/// Distinct values, a multiple of 0.01 plus a half step, in an order that looks random: no ties, no zeros.
fn distinct(batch: usize, channels: usize, spatial: [usize; 3]) -> Tensor {
    let len = batch * channels * spatial.iter().product::<usize>();
    let key = values("order", len);
    let mut order: Vec<usize> = (0..len).collect();
    order.sort_by(|&a, &b| key[a].total_cmp(&key[b]));
    let mut data = vec![0.0; len];
    for (rank, i) in order.into_iter().enumerate() {
        data[i] = (rank as f64 - (len / 2) as f64 + 0.5) * 0.01;
    }
    Tensor::new(batch, channels, spatial, data)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Compares `gradient` with the central differences of `loss` at `x`. Sums here stay below 1000 in magnitude, third
/// derivatives below 100.
fn check(loss: impl Fn(&[f64]) -> f64, x: &[f64], gradient: &[f64], name: &str) {
    let bound = Tolerance::absolute(difference_tolerance(STEP, 1e3, 100.0));
    assert_close(gradient, &central_difference(loss, x, STEP), bound, name);
}

/// `like` with other values.
fn with(like: &Tensor, data: &[f64]) -> Tensor {
    Tensor::new(like.batch, like.channels, like.spatial, data.to_vec())
}

fn windows() -> Vec<(Window, [usize; 3])> {
    vec![
        (Window::POINT, [1, 2, 3]),
        (Window::cube(2, 3, 1, 1), [1, 4, 5]),
        (Window::cube(3, 3, 1, 1), [2, 3, 4]),
        (Window::cube(2, 7, 2, 3), [1, 6, 5]),
        (
            Window {
                kernel: [3, 5, 3],
                stride: [1, 2, 2],
                padding: [1, 2, 1],
            },
            [2, 5, 4],
        ),
        (
            Window {
                kernel: [1, 2, 3],
                stride: [1, 3, 1],
                padding: [0; 3],
            },
            [2, 7, 4],
        ),
    ]
}

#[test]
fn conv_matches_differences() {
    for (window, spatial) in windows() {
        let x = random("x", 2, 3, spatial);
        let weight = values("w", 2 * 3 * window.taps());
        let y = conv::forward(&x, &weight, window);
        assert_eq!(
            (y.batch, y.channels, y.spatial),
            (2, 2, window.output(spatial).unwrap())
        );
        let r = random("r", 2, 2, y.spatial);
        let gx = conv::backward_input(&r, &weight, window, spatial);
        let gw = conv::backward_weight(&x, &r, window);
        let by_x = |v: &[f64]| dot(&conv::forward(&with(&x, v), &weight, window).data, &r.data);
        let by_w = |v: &[f64]| dot(&conv::forward(&x, v, window).data, &r.data);
        check(by_x, &x.data, &gx.data, &format!("input, {window:?}"));
        check(by_w, &weight, &gw, &format!("weight, {window:?}"));
    }
}

#[test]
fn conv_of_a_known_case() {
    // One row [1, 2, 3], kernel [1, 10, 100], padding 1: a cross-correlation, borders count as 0.
    let x = Tensor::new(1, 1, [1, 1, 3], vec![1.0, 2.0, 3.0]);
    let window = Window {
        kernel: [1, 1, 3],
        stride: [1; 3],
        padding: [0, 0, 1],
    };
    let y = conv::forward(&x, &[1.0, 10.0, 100.0], window);
    assert_eq!(y.data, [210.0, 321.0, 32.0]);
}

#[test]
fn batch_norm_matches_differences() {
    let x = random("x", 3, 2, [2, 2, 3]);
    let (weight, bias) = (values("gamma", 2), values("beta", 2));
    let affine = |weight, bias| Affine {
        weight,
        bias,
        eps: 1e-3,
    };
    let r = random("r", 3, 2, [2, 2, 3]);

    let train = |x: &Tensor, w: &[f64], b: &[f64]| {
        let y = batch_norm::forward(
            x,
            &batch_norm::statistics(x),
            Affine {
                weight: w,
                bias: b,
                eps: 1e-3,
            },
        );
        dot(&y.data, &r.data)
    };
    let s = batch_norm::statistics(&x);
    let g = batch_norm::backward(&x, &s, affine(&weight, &bias), &r);
    check(
        |v| train(&with(&x, v), &weight, &bias),
        &x.data,
        &g.input.data,
        "input",
    );
    check(|v| train(&x, v, &bias), &weight, &g.weight, "weight");
    check(|v| train(&x, &weight, v), &bias, &g.bias, "bias");

    let running = Statistics {
        mean: vec![0.3, -0.2],
        var: vec![0.7, 1.4],
    };
    let frozen = |x: &Tensor, w: &[f64], b: &[f64]| {
        let y = batch_norm::forward(
            x,
            &running,
            Affine {
                weight: w,
                bias: b,
                eps: 1e-3,
            },
        );
        dot(&y.data, &r.data)
    };
    let g = batch_norm::backward_constant(&x, &running, affine(&weight, &bias), &r);
    check(
        |v| frozen(&with(&x, v), &weight, &bias),
        &x.data,
        &g.input.data,
        "frozen input",
    );
    check(
        |v| frozen(&x, v, &bias),
        &weight,
        &g.weight,
        "frozen weight",
    );
    check(|v| frozen(&x, &weight, v), &bias, &g.bias, "frozen bias");
}

#[test]
fn batch_norm_of_a_known_case() {
    let x = Tensor::new(2, 1, [1, 1, 2], vec![1.0, 2.0, 3.0, 6.0]);
    let s = batch_norm::statistics(&x);
    assert_eq!(
        s,
        Statistics {
            mean: vec![3.0],
            var: vec![3.5]
        }
    );
    let mut running = Statistics {
        mean: vec![1.0],
        var: vec![2.0],
    };
    batch_norm::update_running(&mut running, &s, 4, 0.25);
    assert_close(&running.mean, &[1.5], Tolerance::absolute(1e-15), "mean");
    // The variance that is kept is the unbiased one: 3.5 · 4/3.
    assert_close(
        &running.var,
        &[1.5 + 3.5 / 3.0],
        Tolerance::absolute(1e-15),
        "var",
    );
}

#[test]
fn relu_matches_differences_and_is_pytorchs_at_zero() {
    let x = distinct(2, 2, [1, 3, 3]);
    let r = random("r", 2, 2, [1, 3, 3]);
    let loss = |v: &[f64]| dot(&relu::forward(&with(&x, v)).data, &r.data);
    check(loss, &x.data, &relu::backward(&x, &r).data, "relu");

    let edge = Tensor::new(1, 1, [1, 1, 4], vec![0.0, -0.0, f64::NAN, f64::INFINITY]);
    let ones = with(&edge, &[1.0; 4]);
    let y = relu::forward(&edge).data;
    assert!(y[0] == 0.0 && y[1] == 0.0 && y[2].is_nan() && y[3] == f64::INFINITY);
    assert_eq!(relu::backward(&edge, &ones).data, [0.0, 0.0, 1.0, 1.0]);
}

#[test]
fn max_pool_matches_differences() {
    let windows = [
        (Window::cube(2, 3, 2, 1), [1, 6, 5]),
        (Window::cube(3, 3, 2, 1), [3, 4, 5]),
        (Window::cube(3, 2, 2, 0), [2, 5, 4]),
    ];
    for (window, spatial) in windows {
        let x = distinct(2, 2, spatial);
        let r = random("r", 2, 2, window.output(spatial).unwrap());
        let loss = |v: &[f64]| dot(&max_pool::forward(&with(&x, v), window).data, &r.data);
        let gx = max_pool::backward(&x, &r, window);
        check(loss, &x.data, &gx.data, &format!("{window:?}"));
    }
}

#[test]
fn max_pool_takes_the_first_of_equals_and_keeps_nan() {
    let window = Window {
        kernel: [1, 1, 3],
        stride: [1, 1, 1],
        padding: [0, 0, 1],
    };
    let x = Tensor::new(1, 1, [1, 1, 4], vec![-2.0, -2.0, f64::NAN, -5.0]);
    let y = max_pool::forward(&x, window).data;
    assert_eq!(y[0], -2.0);
    assert!(y[1..].iter().all(|v| v.is_nan()));
    let ones = with(&x, &[1.0; 4]);
    assert_eq!(
        max_pool::backward(&x, &ones, window).data,
        [1.0, 0.0, 3.0, 0.0]
    );
}

#[test]
fn avg_pool_and_global_avg_pool_match_differences() {
    for (window, spatial) in [
        (Window::cube(2, 2, 2, 0), [1, 5, 4]),
        (Window::cube(3, 2, 2, 0), [2, 3, 5]),
    ] {
        let x = random("x", 2, 2, spatial);
        let r = random("r", 2, 2, window.output(spatial).unwrap());
        let loss = |v: &[f64]| dot(&avg_pool::forward(&with(&x, v), window).data, &r.data);
        let gx = avg_pool::backward(&r, window, spatial);
        check(loss, &x.data, &gx.data, &format!("{window:?}"));
    }
    let x = random("x", 2, 3, [2, 3, 2]);
    let r = random("r", 2, 3, [1; 3]);
    let loss = |v: &[f64]| dot(&global_avg_pool::forward(&with(&x, v)).data, &r.data);
    check(
        loss,
        &x.data,
        &global_avg_pool::backward(&r, x.spatial).data,
        "global",
    );
}

#[test]
fn concat_joins_in_both_orders_and_gives_back() {
    let (old, new) = (
        random("old", 2, 3, [1, 2, 2]),
        random("new", 2, 2, [1, 2, 2]),
    );
    for order in [ConcatOrder::OldNew, ConcatOrder::NewOld] {
        let joined = concat::forward(&old, &new, order);
        let first_new = if order == ConcatOrder::OldNew { 3 } else { 0 };
        assert_eq!(joined.channels, 5);
        assert_eq!(joined.map(1, first_new), new.map(1, 0));
        // Splitting is the transpose of joining, so the gradient of a join is the split.
        assert_eq!(
            concat::backward(&joined, 2, order),
            (old.clone(), new.clone())
        );
    }
}

#[test]
fn dropout_scales_what_it_keeps() {
    let x = random("x", 1, 2, [1, 2, 2]);
    let keep = [true, false, true, true, false, false, true, true];
    let y = dropout::forward(&x, &keep, 0.2);
    for ((y, x), keep) in y.data.iter().zip(&x.data).zip(keep) {
        assert_eq!(*y, if keep { x * (1.0 / 0.8) } else { 0.0 });
    }
    let r = random("r", 1, 2, [1, 2, 2]);
    let loss = |v: &[f64]| dot(&dropout::forward(&with(&x, v), &keep, 0.2).data, &r.data);
    check(
        loss,
        &x.data,
        &dropout::backward(&r, &keep, 0.2).data,
        "dropout",
    );
}

#[test]
fn linear_matches_differences() {
    let x = random("x", 3, 4, [1; 3]);
    let (weight, bias) = (values("w", 5 * 4), values("b", 5));
    let r = random("r", 3, 5, [1; 3]);
    let g = linear::backward(&x, &weight, &r);
    let loss = |x: &Tensor, w: &[f64], b: &[f64]| dot(&linear::forward(x, w, b).data, &r.data);
    check(
        |v| loss(&with(&x, v), &weight, &bias),
        &x.data,
        &g.input.data,
        "input",
    );
    check(|v| loss(&x, v, &bias), &weight, &g.weight, "weight");
    check(|v| loss(&x, &weight, v), &bias, &g.bias, "bias");
}

#[test]
fn cross_entropy_matches_differences() {
    let logits = random("z", 4, 3, [1; 3]);
    let labels = [2, 0, 0, 1];
    for label_smoothing in [0.0, 0.1, 1.0] {
        for class_weights in [vec![], vec![0.5, 2.0, 1.0]] {
            let loss = CrossEntropy {
                label_smoothing,
                class_weights,
            };
            let value = |v: &[f64]| loss.forward(&with(&logits, v), &labels).unwrap().value;
            let gradient = loss.forward(&logits, &labels).unwrap().grad_logits;
            check(value, &logits.data, &gradient.data, &format!("{loss:?}"));
        }
    }
}

#[test]
fn cross_entropy_of_known_cases() {
    let tight = Tolerance::absolute(1e-12);
    // Equal logits: log K, whatever the smoothing.
    let even = Tensor::zeros(2, 4, [1; 3]);
    for label_smoothing in [0.0, 0.3] {
        let loss = CrossEntropy {
            label_smoothing,
            class_weights: vec![],
        };
        let found = loss.forward(&even, &[1, 3]).unwrap();
        assert_close(&[found.value], &[4f64.ln()], tight, "log K");
    }
    // Huge logits neither overflow nor lose the loss.
    let huge = Tensor::new(1, 2, [1; 3], vec![1e4, -1e4]);
    let found = CrossEntropy::default().forward(&huge, &[1]).unwrap();
    assert_close(&[found.value], &[2e4], tight, "huge");
    // Weights 1 and 3 on losses a and b give (a + 3b)/4.
    let logits = Tensor::new(2, 2, [1; 3], vec![1.0, 0.0, 0.5, -0.5]);
    let plain = |n: usize, label: usize| {
        let one = Tensor::new(1, 2, [1; 3], logits.data[2 * n..2 * n + 2].to_vec());
        CrossEntropy::default()
            .forward(&one, &[label])
            .unwrap()
            .value
    };
    let weighted = CrossEntropy {
        label_smoothing: 0.0,
        class_weights: vec![1.0, 3.0],
    };
    let found = weighted.forward(&logits, &[0, 1]).unwrap();
    assert_close(
        &[found.value],
        &[(plain(0, 0) + 3.0 * plain(1, 1)) / 4.0],
        tight,
        "weighted",
    );
}
