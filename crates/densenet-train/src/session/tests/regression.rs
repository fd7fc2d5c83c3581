//! Softmax regression on 8×8 images, with running statistics and a "dropout" keyed by the forward pass, so that a counter
//! that goes wrong changes bits.

use std::ops::ControlFlow;

use densenet::Part;
use densenet_data::Batch;

use crate::{
    error::TrainError,
    network::{Net, Scorer, View},
    spec::{Architecture, DenseNetConfig, ParameterKind, Stem, preset},
    weights::{InitMode, StateDict, initialize},
};

const PIXELS: usize = 64;
const CLASSES: usize = 10;
/// Where the bias begins, after a gap as alignment leaves one.
const BIAS: usize = 656;
const LEN: usize = BIAS + 16;

#[derive(Clone)]
pub(super) struct Regression {
    pub(super) config: DenseNetConfig,
    pub(super) parameters: Vec<f32>,
    pub(super) gradients: Vec<f32>,
    pub(super) buffers: Vec<f32>,
    pub(super) batches: u64,
    pub(super) logits: Vec<f32>,
    /// The last forward pass's input after "dropout", and its mean per pixel.
    pub(super) seen: Vec<f32>,
    pub(super) mean: Vec<f32>,
    /// At this forward pass, what turns to NaN.
    pub(super) poison: Option<(u64, Poison)>,
    pub(super) passes: u64,
    pub(super) dropout: bool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Poison {
    Loss,
    Gradient,
    Statistics,
}

pub(super) fn regression() -> Regression {
    let base = preset("densenet-40-12").unwrap().config(2).unwrap();
    let config = DenseNetConfig {
        growth_rate: 1,
        block_config: vec![1],
        num_init_features: 1,
        in_channels: 1,
        stem: Stem::small(2),
        ..base
    };
    let mut parameters = crate::golden::values(3, LEN, 0.05);
    parameters[PIXELS * CLASSES..BIAS].fill(0.0);
    parameters[BIAS + CLASSES..].fill(0.0);
    Regression {
        config,
        parameters,
        gradients: vec![0.0; LEN],
        buffers: vec![0.0; PIXELS],
        batches: 0,
        logits: Vec::new(),
        seen: Vec::new(),
        mean: Vec::new(),
        poison: None,
        passes: 0,
        dropout: true,
    }
}

fn logits(parameters: &[f32], input: &[f32]) -> Vec<f32> {
    let row = |x: &[f32]| -> Vec<f32> {
        let dot = |c: usize| {
            x.iter()
                .zip(&parameters[c * PIXELS..])
                .map(|(x, w)| x * w)
                .sum::<f32>()
        };
        (0..CLASSES)
            .map(|c| parameters[BIAS + c] + dot(c))
            .collect()
    };
    input.chunks(PIXELS).flat_map(row).collect()
}

impl Net for Regression {
    fn forward(&mut self, batch: &Batch, pass: u64) -> Result<&[f32], TrainError> {
        self.passes = pass;
        self.seen = batch.data.clone();
        if self.dropout {
            for (i, x) in self.seen.iter_mut().enumerate() {
                if (i as u64 + pass * 7919).is_multiple_of(11) {
                    *x = 0.0;
                }
            }
        }
        let n = batch.len() as f32;
        self.mean = (0..PIXELS)
            .map(|p| self.seen.iter().skip(p).step_by(PIXELS).sum::<f32>() / n)
            .collect();
        self.logits = logits(&self.parameters, &self.seen);
        match self.poison {
            Some((at, Poison::Loss)) if at == pass => self.logits[3] = f32::NAN,
            Some((at, Poison::Statistics)) if at == pass => self.mean[3] = f32::INFINITY,
            _ => {}
        }
        Ok(&self.logits)
    }

    fn backward(&mut self, grad_logits: &[f32]) -> Result<(), TrainError> {
        for (x, g) in self.seen.chunks(PIXELS).zip(grad_logits.chunks(CLASSES)) {
            for (c, g) in g.iter().enumerate() {
                self.gradients[BIAS + c] += g;
                for (w, x) in self.gradients[c * PIXELS..(c + 1) * PIXELS]
                    .iter_mut()
                    .zip(x)
                {
                    *w += g * x;
                }
            }
        }
        if self.poison == Some((self.passes, Poison::Gradient)) {
            self.gradients[BIAS + 2] = f32::NEG_INFINITY;
        }
        Ok(())
    }

    fn backward_by_part(
        &mut self,
        grad_logits: &[f32],
        each: &mut (dyn FnMut(Part<'_>) -> ControlFlow<()> + Send),
    ) -> Result<(), TrainError> {
        self.zero_grad();
        self.backward(grad_logits)?;
        // The weights first, so that they have moved when the bias's gradient turns out to be poisoned.
        for range in [0..BIAS, BIAS..LEN] {
            let part = Part {
                parameters: &mut self.parameters[range.clone()],
                gradients: &self.gradients[range.clone()],
                range,
            };
            if each(part).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn zero_grad(&mut self) {
        self.gradients.fill(0.0);
    }

    fn update_running_statistics(&mut self) {
        for (b, m) in self.buffers.iter_mut().zip(&self.mean) {
            *b += 0.1 * (m - *b);
        }
        self.batches += 1;
    }

    fn batches_tracked(&self) -> u64 {
        self.batches
    }

    fn set_batches_tracked(&mut self, batches: u64) {
        self.batches = batches;
    }

    fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    fn gradients(&self) -> &[f32] {
        &self.gradients
    }

    fn parameters_and_gradients_mut(&mut self) -> (&mut [f32], &mut [f32]) {
        (&mut self.parameters, &mut self.gradients)
    }

    fn buffers(&self) -> &[f32] {
        &self.buffers
    }

    fn buffers_mut(&mut self) -> &mut [f32] {
        &mut self.buffers
    }

    fn views(&self) -> Vec<View> {
        let view = |name: &str, range, kind| View {
            name: name.into(),
            range,
            kind,
            trainable: true,
        };
        vec![
            view(
                "classifier.weight",
                0..PIXELS * CLASSES,
                ParameterKind::LinearWeight,
            ),
            view(
                "classifier.bias",
                BIAS..BIAS + CLASSES,
                ParameterKind::LinearBias,
            ),
        ]
    }

    /// A DenseNet of the same number of classes whose classifier carries a trace of every weight, so that it is a valid
    /// model file and differs whenever a weight does.
    fn state_dict_of(&self, parameters: &[f32], buffers: &[f32]) -> StateDict {
        let architecture = Architecture::new(&self.config).unwrap();
        let mut state = initialize(&architecture, 0, InitMode::FanIn);
        let bias = &mut state.get_mut("classifier.bias").unwrap().data;
        for (i, v) in parameters.iter().chain(buffers).enumerate() {
            bias[i % CLASSES] += v * (1.0 + i as f32 / 64.0);
        }
        state
    }

    fn scorer(&self, parameters: &[f32], _buffers: &[f32]) -> Result<Box<dyn Scorer>, TrainError> {
        struct Frozen(Vec<f32>);
        impl Scorer for Frozen {
            fn logits(&self, batch: &Batch) -> Result<Vec<f32>, TrainError> {
                Ok(logits(&self.0, &batch.data))
            }
        }
        Ok(Box::new(Frozen(parameters.to_vec())))
    }
}
