//! Temperature scaling.
//!
//! With logits z and β = 1/T the probabilities are softmax(β·z). Their mean cross entropy
//!
//! ```text
//! L(β) = mean_i [ ln Σ_k exp(β z_ik) − β z_i,y ],   L′ = mean_i [ E_p z_i − z_i,y ],   L″ = mean_i [ Var_p z_i ] ≥ 0
//! ```
//!
//! is convex in β, so the root of L′ is the minimum, and Newton's method finds it to the last bits; a bracket around the
//! root keeps it from leaving. Source: Guo, Pleiss, Sun, Weinberger, *On Calibration of Modern Neural Networks*, ICML 2017,
//! section 4.2.

/// A network's answers on a data set.
pub struct Answers {
    /// `[samples, classes]`
    pub logits: Vec<f32>,
    pub labels: Vec<u32>,
    pub classes: usize,
}

/// The loss at some β, with its derivatives.
#[derive(Debug, Clone, Copy)]
pub struct Loss {
    pub value: f64,
    pub slope: f64,
    pub curvature: f64,
}

/// The best temperature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    pub temperature: f64,
}

/// Temperatures outside say that something else is wrong.
const COLDEST: f64 = 0.01;
const HOTTEST: f64 = 100.0;
/// Bisection alone would be done after 60.
const MOST_STEPS: usize = 200;

impl Answers {
    fn rows(&self) -> impl Iterator<Item = (&[f32], usize)> {
        let rows = self.logits.chunks_exact(self.classes.max(1));
        rows.zip(self.labels.iter().map(|&label| label as usize))
    }

    /// Mean cross entropy of softmax(β·z), taken at each row's maximum so that nothing overflows.
    pub fn loss(&self, beta: f64) -> Loss {
        let (mut value, mut slope, mut curvature) = (0.0, 0.0, 0.0);
        for (row, label) in self.rows() {
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let (mut sum, mut first, mut second) = (0.0f64, 0.0f64, 0.0f64);
            for &z in row {
                let z = f64::from(z) - f64::from(top);
                let e = (beta * z).exp();
                (sum, first, second) = (sum + e, first + e * z, second + e * z * z);
            }
            let own = f64::from(row.get(label).copied().unwrap_or(top)) - f64::from(top);
            let mean = first / sum;
            value += sum.ln() - beta * own;
            slope += mean - own;
            curvature += second / sum - mean * mean;
        }
        let n = self.labels.len().max(1) as f64;
        Loss {
            value: value / n,
            slope: slope / n,
            curvature: curvature / n,
        }
    }

    /// softmax(z / T), `[samples, classes]`.
    pub fn probabilities(&self, temperature: f64) -> Vec<f32> {
        let mut probabilities = Vec::with_capacity(self.logits.len());
        for (row, _) in self.rows() {
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let exps = row
                .iter()
                .map(|&z| ((f64::from(z) - f64::from(top)) / temperature).exp());
            let exps: Vec<f64> = exps.collect();
            let sum: f64 = exps.iter().sum();
            probabilities.extend(exps.iter().map(|e| (e / sum) as f32));
        }
        probabilities
    }

    /// The first of the highest logits of every sample.
    pub fn likeliest(&self) -> Vec<u32> {
        let best = |row: &[f32]| {
            let mut best = 0;
            for (i, z) in row.iter().enumerate() {
                if *z > row[best] {
                    best = i;
                }
            }
            best as u32
        };
        self.rows().map(|(row, _)| best(row)).collect()
    }
}

impl Fit {
    /// The temperature with the smallest mean cross entropy.
    ///
    /// # Errors
    /// There is none between 0.01 and 100, and why.
    pub fn of(answers: &Answers) -> Result<Self, &'static str> {
        if answers.labels.is_empty() {
            return Err("no samples");
        }
        if answers.classes < 2 {
            return Err("a single class, whose probability is 1 at any temperature");
        }
        let (mut low, mut high) = (1.0 / HOTTEST, 1.0 / COLDEST);
        if answers.loss(low).slope >= 0.0 {
            return Err("the answers are no better than guessing, so no temperature helps");
        }
        if answers.loss(high).slope <= 0.0 {
            return Err("every answer is right by far, so the best temperature would be 0");
        }
        let mut beta = 1.0f64;
        for _ in 0..MOST_STEPS {
            let loss = answers.loss(beta);
            if loss.slope == 0.0 {
                break;
            }
            if loss.slope > 0.0 {
                high = beta;
            } else {
                low = beta;
            }
            let newton = beta - loss.slope / loss.curvature;
            let next = match newton > low && newton < high {
                true => newton,
                false => (low * high).sqrt(),
            };
            let done = (next - beta).abs() <= 1e-13 * beta;
            beta = next;
            if done {
                break;
            }
        }
        Ok(Fit {
            temperature: 1.0 / beta,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use densenet_testkit::{Distribution, fill};

    /// Logits of `factor` times the right size: the label is where logits with as much noise are highest.
    fn answers(samples: usize, classes: usize, factor: f32) -> Answers {
        let values = |name: &str, half_width| {
            let center = 0.0;
            fill(
                name,
                samples * classes,
                5,
                Distribution { center, half_width },
            )
        };
        let (logits, noise) = (values("logits", 4.0), values("noise", 6.0));
        let noisy: Vec<f32> = logits.iter().zip(&noise).map(|(z, n)| z + n).collect();
        let of = |logits: Vec<f32>, labels: Vec<u32>| Answers {
            logits,
            labels,
            classes,
        };
        let labels = of(noisy, vec![0; samples]).likeliest();
        of(logits.iter().map(|z| factor * z).collect(), labels)
    }

    /// `tools/explain/temperature.py` prints these figures: scipy's bounded minimiser on the same logits in f64.
    #[test]
    fn scipy_finds_the_same_temperature() {
        for (samples, classes, factor, temperature, before, after) in SCIPY {
            let answers = answers(samples, classes, factor);
            let fit = Fit::of(&answers).unwrap();
            let error = (fit.temperature / temperature - 1.0).abs();
            assert!(error < 2e-7, "{} {temperature}", fit.temperature);
            assert!((answers.loss(1.0).value - before).abs() < 1e-9);
            assert!((answers.loss(1.0 / fit.temperature).value - after).abs() < 1e-9);
        }
    }

    /// Samples, classes, factor; temperature, NLL before and after.
    const SCIPY: [(usize, usize, f32, f64, f64, f64); 3] = [
        (
            400,
            5,
            2.5,
            5.975245662499338,
            3.136602958930898,
            1.3161868172890003,
        ),
        (
            250,
            2,
            0.5,
            1.8468074713865874,
            0.6535557767978696,
            0.6176933198346756,
        ),
        (
            600,
            30,
            1.25,
            1.271845905816144,
            2.392291912263047,
            2.3624582707624624,
        ),
    ];

    #[test]
    fn the_minimum_is_one() {
        let answers = answers(300, 4, 2.0);
        let best = 1.0 / Fit::of(&answers).unwrap().temperature;
        let at = |beta: f64| answers.loss(beta).value;
        assert!(at(best) <= at(best * 1.0001) && at(best) <= at(best * 0.9999));
        assert!(answers.loss(best).slope.abs() < 1e-12);
        let (h, loss) = (1e-4, answers.loss(0.7));
        let slope = (at(0.7 + h) - at(0.7 - h)) / (2.0 * h);
        let curvature = (at(0.7 + h) - 2.0 * at(0.7) + at(0.7 - h)) / (h * h);
        assert!((slope - loss.slope).abs() < 1e-6, "{slope} {}", loss.slope);
        assert!((curvature - loss.curvature).abs() < 1e-5);
    }

    #[test]
    fn what_no_temperature_helps_is_said() {
        let of = |logits: Vec<f32>, labels: Vec<u32>, classes| Answers {
            logits,
            labels,
            classes,
        };
        let refusal = |answers: &Answers| Fit::of(answers).unwrap_err();
        assert_eq!(refusal(&of(vec![], vec![], 2)), "no samples");
        assert!(refusal(&of(vec![1.0], vec![0], 1)).starts_with("a single class"));
        let wrong = of(vec![3.0, 0.0, 0.0, 3.0], vec![1, 0], 2);
        assert!(refusal(&wrong).starts_with("the answers are no better"));
        let right = of(vec![9.0, 0.0, 0.0, 9.0], vec![0, 1], 2);
        assert!(refusal(&right).starts_with("every answer is right"));
    }
}
