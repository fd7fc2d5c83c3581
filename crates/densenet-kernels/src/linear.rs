//! The classifier in training: exact products, summed in f64.

use crate::{
    Isa, KernelError,
    error::exactly,
    isa::dispatch,
    parallel::{Shared, for_each},
    simd::Simd,
};

/// Classes whose sums a task keeps: a cache line of weights, two registers of AVX-512.
const CLASSES: usize = 16;

/// `output[n][o] = bias[o] + Σ_i input[n][i] · weight[i][o]`.
///
/// # Shapes
/// `weight` `[c_in][c_out]`, `bias` `[c_out]`, `input` `[batch][c_in]`, `output` `[batch][c_out]`.
///
/// # Errors
/// A buffer does not fit.
///
/// # Numerics
/// A product of two f32 is exact in f64, so all instruction sets give the same bits; the sum, ascending over `i`, is rounded
/// to f32 once. Every gradient starts from these sums: one f32 chain over 1,024 features of about 8 strayed by 2.6e-6 in
/// logits of about 5, and the classifier's gradient by five times PyTorch's error.
pub fn linear(
    isa: Isa,
    (weight, bias): (&[f32], &[f32]),
    (input, c_in): (&[f32], usize),
    output: &mut [f32],
) -> Result<(), KernelError> {
    const OP: &str = "classifier";
    let c_out = bias.len();
    let batch = input.len().checked_div(c_in).unwrap_or(0);
    exactly(OP, "input", batch * c_in, input.len())?;
    exactly(OP, "weight", c_in * c_out, weight.len())?;
    exactly(OP, "output", batch * c_out, output.len())?;
    let shared = Shared::new(output);
    for_each(c_out.div_ceil(CLASSES), |task| {
        let classes = task * CLASSES..c_out.min((task + 1) * CLASSES);
        for n in 0..batch {
            let mut sums = [0.0; CLASSES];
            let sums = &mut sums[..classes.len()];
            let own = (weight, c_out, classes.start);
            sum(isa, own, &input[n * c_in..][..c_in], sums);
            // SAFETY: every class belongs to one task; the length was checked.
            let logits = unsafe { shared.slice(n * c_out + classes.start, classes.len()) };
            for ((logit, sum), bias) in logits.iter_mut().zip(sums).zip(&bias[classes.clone()]) {
                *logit = (*sum + f64::from(*bias)) as f32;
            }
        }
    });
    Ok(())
}

dispatch! {
    fn sum(weight: (&[f32], usize, usize), input: &[f32], sums: &mut [f64]) = sum_body
}

/// Adds to `sums` the products of some classes: `(weights, classes in all, the first of these)`.
#[inline(always)]
fn sum_body<S: Simd>(
    (weight, c_out, first): (&[f32], usize, usize),
    input: &[f32],
    sums: &mut [f64],
) {
    let count = sums.len();
    let rows = weight.chunks_exact(c_out).zip(input);
    // With a constant length the sums stay in registers.
    if let Ok(sums) = <&mut [f64; CLASSES]>::try_from(&mut *sums) {
        for (row, x) in rows {
            if let Some(row) = row[first..].first_chunk::<CLASSES>() {
                for (sum, w) in sums.iter_mut().zip(row) {
                    *sum += f64::from(*w) * f64::from(*x);
                }
            }
        }
        return;
    }
    for (row, x) in rows {
        for (sum, w) in sums.iter_mut().zip(&row[first..first + count]) {
            *sum += f64::from(*w) * f64::from(*x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_rounded_once_and_the_same_on_every_instruction_set() {
        for (batch, c_in, c_out) in [(1, 1, 1), (3, 15, 2), (2, 16, 5), (4, 1027, 300), (0, 8, 3)] {
            let value = |i: usize| ((i * 7919 % 1009) as f32 - 300.0) / 77.0;
            let weight: Vec<f32> = (0..c_out * c_in).map(value).collect();
            let bias: Vec<f32> = (0..c_out).map(|i| value(i + 5)).collect();
            let input: Vec<f32> = (0..batch * c_in).map(|i| value(i + 11)).collect();
            for &isa in Isa::available() {
                let mut output = vec![f32::NAN; batch * c_out];
                linear(isa, (&weight, &bias), (&input, c_in), &mut output).unwrap();
                let mut first = vec![f32::NAN; batch * c_out];
                let own = (&weight[..], &bias[..]);
                linear(Isa::PORTABLE, own, (&input, c_in), &mut first).unwrap();
                assert_eq!(output, first, "{}", isa.name());
                for (i, found) in output.iter().enumerate() {
                    let (n, o) = (i / c_out, i % c_out);
                    let products = (0..c_in)
                        .map(|k| f64::from(input[n * c_in + k]) * f64::from(weight[k * c_out + o]));
                    let (sum, size) =
                        products.fold((f64::from(bias[o]), 0.0), |(s, a), p| (s + p, a + p.abs()));
                    let bound = f64::from(f32::EPSILON) / 2.0 * sum.abs() + 1e-12 * size;
                    assert!(
                        (f64::from(*found) - sum).abs() <= bound,
                        "{i}: {found} for {sum}"
                    );
                }
            }
        }
        let short = linear(
            Isa::PORTABLE,
            (&[1.0; 6], &[0.0; 2]),
            (&[1.0; 3], 3),
            &mut [0.0],
        );
        assert_eq!(short.unwrap_err().what, "output");
    }
}
