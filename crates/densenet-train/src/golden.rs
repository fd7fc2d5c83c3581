//! Golden numbers from PyTorch and scikit-learn, for tests (`tools/train/golden.py` writes them).

use serde::Deserialize;

#[derive(Deserialize)]
pub(crate) struct Golden {
    pub(crate) optimizers: Vec<OptimizerCase>,
    pub(crate) losses: Vec<LossCase>,
    pub(crate) metrics: Vec<MetricsCase>,
    pub(crate) one_cycle: Vec<f64>,
    pub(crate) clip: ClipCase,
}

#[derive(Deserialize)]
pub(crate) struct OptimizerCase {
    pub(crate) name: String,
    pub(crate) lrs: Vec<f64>,
    pub(crate) after: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
pub(crate) struct LossCase {
    pub(crate) label_smoothing: f64,
    pub(crate) class_weights: Option<Vec<f64>>,
    pub(crate) loss: f64,
    pub(crate) grad: Vec<f64>,
}

#[derive(Deserialize)]
pub(crate) struct MetricsCase {
    pub(crate) seed: u32,
    pub(crate) samples: usize,
    pub(crate) classes: usize,
    pub(crate) auroc: Vec<Option<f64>>,
    pub(crate) macro_auroc: f64,
}

#[derive(Deserialize)]
pub(crate) struct ClipCase {
    pub(crate) norm: f64,
    pub(crate) clipped: Vec<f32>,
}

pub(crate) fn golden() -> Golden {
    serde_json::from_str(include_str!("../tests/golden/train.json"))
        .expect("the golden file is JSON")
}

/// `n` multiples of 1/1024 in [−scale, scale), as the script generates them.
pub(crate) fn values(seed: u32, n: usize, scale: f64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((f64::from(state >> 21) / 1024.0 - 1.0) * scale) as f32
    };
    (0..n).map(|_| next()).collect()
}
