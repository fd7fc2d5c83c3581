//! Norm, ReLU and 1×1 convolution in one pass.

use densenet_kernels::{
    Isa, Operand, Panels, Raster,
    norm::Combination,
    pointwise::{OutputGradient, PointwiseBackward, PointwiseForward, PointwiseTargets},
};

use crate::{Norm, assert_moments, assert_near, fused, values};

#[test]
fn pointwise_backward() {
    let shapes = [
        (1, [1, 1, 1], 3, 5),
        (2, [1, 9, 7], 40, 48),
        (1, [3, 20, 13], 70, 12),
        (3, [1, 21, 16], 130, 33),
        (2, [1, 40, 17], 24, 128),
    ];
    for &isa in Isa::available() {
        for (i, (batch, spatial, c_in, c_out)) in shapes.into_iter().enumerate() {
            for rest in [false, true] {
                pointwise_backward_case(isa, (batch, spatial), [c_in, c_out], rest, i as u64);
            }
        }
    }
}

fn pointwise_backward_case(
    isa: Isa,
    (batch, spatial): (usize, [usize; 3]),
    [c_in, c_out]: [usize; 2],
    with_rest: bool,
    seed: u64,
) {
    let what = format!(
        "{} {batch}×{spatial:?} {c_in}→{c_out} {with_rest}",
        isa.name()
    );
    let raster = Raster::dense(batch, spatial, c_in + 7).at(2);
    let narrow = Raster::dense(batch, spatial, c_out);
    let x = values(raster.len(), seed);
    let grad = values(narrow.len(), seed + 10);
    let map = values(narrow.len(), seed + 11);
    let weight = values(c_in * c_out, seed + 12);
    let norm = Norm::new(c_in, seed + 20);
    let (a, b) = (values(c_out, seed + 30), values(c_out, seed + 31));
    let (constant, mean) = (values(c_out, seed + 32), values(c_out, seed + 33));
    let combination = Combination {
        of_grad: &a,
        of_input: &b,
        constant: &constant,
        mean: &mean,
    };
    let panels = Panels::packed(isa, &weight, [1, c_in, c_out], Operand::BackwardInput).unwrap();
    let before = values(raster.len(), seed + 40);
    let mut grad_input = before.clone();
    let weight_before = values(c_in * c_out, seed + 41);
    let mut grad_weight = weight_before.clone();
    let pixels = raster.pixels();
    let mut partials = vec![f32::NAN; PointwiseBackward::partials(isa, [c_in, c_out], pixels)];
    let mut partial_sums = vec![f64::NAN; PointwiseBackward::partial_sums(isa, c_in, pixels)];
    let (mut sum, mut sum_x) = (vec![f64::NAN; c_in], vec![f64::NAN; c_in]);
    let backward = PointwiseBackward {
        input: (&x, raster),
        affine: norm.affine(),
        statistics: norm.statistics(),
        grad_output: OutputGradient {
            grad: (&grad, narrow),
            rest: with_rest.then_some((combination, &map[..], narrow)),
        },
        weights: &panels,
    };
    let targets = PointwiseTargets {
        grad_input: &mut grad_input,
        grad_weight: Some((&mut grad_weight, &mut partials)),
        sums: [&mut sum, &mut sum_x],
        partial_sums: &mut partial_sums,
    };
    backward.run(targets).unwrap();

    let g = |p: usize, o: usize| -> f64 {
        let place = narrow.pixel(p) + o;
        if !with_rest {
            return f64::from(grad[place]);
        }
        let rest = f64::from(b[o]) * f64::from(map[place] - mean[o]) + f64::from(constant[o]);
        f64::from(a[o]) * f64::from(grad[place]) + rest
    };
    let mut touched = vec![false; raster.len()];
    let mut exact_weight = vec![0.0f64; c_in * c_out];
    for c in 0..c_in {
        let (mut exact_sum, mut exact_x, mut size) = (0.0, 0.0, 0.0);
        for p in 0..pixels {
            let place = raster.pixel(p) + c;
            touched[place] = true;
            let active = norm.at(c, x[place], fused(isa)).max(0.0);
            let (mut product, mut terms) = (0.0, 0.0);
            for o in 0..c_out {
                let term = g(p, o) * f64::from(weight[c * c_out + o]);
                (product, terms) = (product + term, terms + term.abs());
                exact_weight[c * c_out + o] += f64::from(active) * g(p, o);
            }
            let m = if active > 0.0 { product } else { 0.0 };
            let expected = f64::from(before[place]) + f64::from(norm.scale[c]) * m;
            let found = f64::from(grad_input[place]);
            assert_near(found, expected, 2.0 * c_out as f64, terms + 1.0, &what);
            exact_sum += m;
            exact_x += m * f64::from(x[place] - norm.mean[c]) * f64::from(norm.inv_std[c]);
            size += terms;
        }
        let factor = (c_out + 90) as f64;
        assert_near(sum[c], exact_sum, factor, size, &format!("{what}: Σ m"));
        assert_near(
            sum_x[c],
            exact_x,
            factor,
            6.0 * size,
            &format!("{what}: Σ m·x̂"),
        );
    }
    for (i, (found, exact)) in grad_weight.iter().zip(&exact_weight).enumerate() {
        let exact = exact + f64::from(weight_before[i]);
        assert_near(f64::from(*found), exact, 2.0 * pixels as f64, 12.0, &what);
    }
    // What does not belong to the layer stays as it was.
    for (i, touched) in touched.into_iter().enumerate() {
        assert!(touched || grad_input[i] == before[i], "{what}: {i}");
    }
}

#[test]
fn pointwise_forward() {
    for &isa in Isa::available() {
        for (batch, spatial, c_in, c_out) in [
            (1, [1, 1, 2], 3, 5),
            (2, [1, 9, 7], 40, 48),
            (1, [3, 20, 13], 70, 12),
            (2, [1, 30, 16], 24, 130),
        ] {
            let what = format!("{} {batch}×{spatial:?} {c_in}→{c_out}", isa.name());
            let from = Raster::dense(batch, spatial, c_in + 5).at(1);
            let to = Raster::dense(batch, spatial, c_out + 3).at(2);
            let x = values(from.len(), 1);
            let weight = values(c_in * c_out, 2);
            let norm = Norm::new(c_in, 3);
            let weights = Panels::packed(isa, &weight, [1, c_in, c_out], Operand::Forward).unwrap();
            let mut output = vec![f32::NAN; to.len()];
            let (mut mean, mut variance) = (vec![f64::NAN; c_out], vec![f64::NAN; c_out]);
            let needed = PointwiseForward::partial_sums(c_out, to.pixels());
            let forward = PointwiseForward {
                input: (&x, from),
                affine: norm.affine(),
                weights: &weights,
            };
            let moments = [&mut mean[..], &mut variance[..]];
            forward
                .run((&mut output, &to), moments, &mut vec![f64::NAN; needed])
                .unwrap();
            for o in 0..c_out {
                let column: Vec<f64> = (0..to.pixels())
                    .map(|p| {
                        let found = f64::from(output[to.pixel(p) + o]);
                        let (mut exact, mut size) = (0.0, 0.0);
                        for c in 0..c_in {
                            let n = norm.at(c, x[from.pixel(p) + c], fused(isa)).max(0.0);
                            let term = f64::from(n) * f64::from(weight[c * c_out + o]);
                            (exact, size) = (exact + term, size + term.abs());
                        }
                        assert_near(found, exact, c_in as f64, size, &what);
                        found
                    })
                    .collect();
                assert_moments(&column, mean[o], variance[o], &what);
            }
        }
    }
}
