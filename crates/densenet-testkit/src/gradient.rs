//! Gradients by central differences.

/// The gradient of `f` at `x`: `(f(x + step·e_i) − f(x − step·e_i)) / (2·step)` for every i.
///
/// # Numerics
/// Truncation costs step²·|f'''|/6, cancellation eps·|f|/step; in f64 with f and its derivatives of order 1 a step of
/// 1e-5 leaves about 1e-10. See [`difference_tolerance`].
pub fn central_difference(f: impl FnMut(&[f64]) -> f64, x: &[f64], step: f64) -> Vec<f64> {
    let all: Vec<usize> = (0..x.len()).collect();
    central_difference_at(f, x, &all, step)
}

/// The entries of [`central_difference`] at `indices` only, for long `x`.
///
/// # Panics
/// An index is out of range.
pub fn central_difference_at(
    mut f: impl FnMut(&[f64]) -> f64,
    x: &[f64],
    indices: &[usize],
    step: f64,
) -> Vec<f64> {
    let mut x = x.to_vec();
    indices
        .iter()
        .map(|&i| {
            let center = x[i];
            let (above, below) = (center + step, center - step);
            x[i] = above;
            let f_above = f(&x);
            x[i] = below;
            let f_below = f(&x);
            x[i] = center;
            // above − below is the step really taken, after rounding.
            (f_above - f_below) / (above - below)
        })
        .collect()
}

/// Bound on the error of a central difference: `step²·third/6 + c·eps·magnitude/step`.
///
/// `magnitude` bounds the terms that are summed into f (not only f itself), `third` its third derivatives; c = 8 covers
/// the rounding inside f for the sums of a few thousand terms that small test networks make.
pub fn difference_tolerance(step: f64, magnitude: f64, third: f64) -> f64 {
    step * step * third / 6.0 + 8.0 * f64::EPSILON * magnitude / step
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Tolerance, assert_close};

    #[test]
    fn differentiates_a_known_function() {
        let f = |x: &[f64]| x[0].sin() * x[1] + x[1].powi(3);
        let x: [f64; 2] = [0.7, -1.3];
        let expected = [x[0].cos() * x[1], x[0].sin() + 3.0 * x[1] * x[1]];
        let bound = Tolerance::absolute(difference_tolerance(1e-5, 4.0, 8.0));
        assert_close(
            &central_difference(f, &x, 1e-5),
            &expected,
            bound,
            "gradient",
        );
        let second = central_difference_at(f, &x, &[1], 1e-5);
        assert_close(&second, &expected[1..], bound, "gradient[1]");
    }
}
