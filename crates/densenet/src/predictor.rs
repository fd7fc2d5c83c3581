//! A network compiled for inference.

mod norms;
mod profile;
mod run;
mod schedule;
mod source;
mod taps;
mod weights;
mod workspace;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use densenet_kernels::{Isa, norm::Affine, together};
use densenet_spec::{Architecture, DenseNetConfig, StageKind, Trace};
use densenet_weights::StateDict;
use rayon::prelude::*;

use crate::{
    Input, NetworkError,
    plan::{Norm, Plan},
};
use norms::Norms;
use run::Run;
pub(crate) use schedule::Schedule;
pub use source::Weights;
use taps::Taps;
use weights::Packer;
pub(crate) use weights::transformed;
pub(crate) use workspace::Sizes;
use workspace::Workspace;

/// An inference plan: folded norms, packed weights, memory that is reused from run to run.
///
/// `run` may be called from several threads at a time.
pub struct Predictor {
    options: PredictorOptions,
    plan: Plan,
    norms: Norms,
    weights: weights::Store,
    /// The scale of an affine map that only adds: as many as any layer has channels.
    ones: Vec<f32>,
    /// The classifier's.
    bias: Vec<f32>,
    /// Memory of runs that are over.
    idle: Mutex<Vec<Workspace>>,
}

/// The numbers to compute with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dtype {
    /// Everything in f32.
    #[default]
    F32,
    /// 1×1 convolutions, most 3×3 and 3×3×3 ones and the 2-D stem multiply in bf16 and sum in f32; the rest stays f32. Faster where
    /// [`Isa::has_bf16`].
    Bf16,
}

/// How a [`Predictor`] computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PredictorOptions {
    /// The instruction set.
    pub isa: Isa,
    /// The numbers.
    pub dtype: Dtype,
}

/// A named activation, channels-last.
#[derive(Debug, Clone, PartialEq)]
pub struct Feature {
    /// The name it was asked for by.
    pub name: String,
    /// `[batch, depth, height, width, channels]`; after the global pooling `[batch, 1, 1, 1, channels]`.
    pub shape: [usize; 5],
    /// The values in that order.
    pub data: Vec<f32>,
}

/// Logits and the activations that were asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `[batch, num_classes]`
    pub logits: Vec<f32>,
    /// In the order in which they were asked for.
    pub taps: Vec<Feature>,
}

/// How long a stage of a run took.
#[derive(Debug, Clone, PartialEq)]
pub struct StageTime {
    /// The stage's name.
    pub name: String,
    /// Wall time.
    pub time: Duration,
}

/// How long a kernel of a run took.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelTime {
    /// Its stage's name.
    pub stage: String,
    /// `op.pass.dtype.tile.fusion.isa`
    pub id: String,
    /// Times it ran.
    pub calls: usize,
    /// Multiply-adds of the operation computed directly, all calls together; 0 for a pooling.
    pub macs: u64,
    /// Wall time of all calls.
    pub time: Duration,
}

impl Predictor {
    /// Compiles the network `config` with the weights `state` for this machine's best instruction set.
    ///
    /// # Errors
    /// The configuration cannot work, a tensor is missing or misshaped, or `DENSENET_ISA` is wrong.
    pub fn new(config: &DenseNetConfig, state: &StateDict) -> Result<Self, NetworkError> {
        let isa = Isa::active().map_err(NetworkError::Isa)?;
        Self::with_isa(config, state, isa)
    }

    /// [`Predictor::new`] for a given instruction set.
    ///
    /// # Errors
    /// As [`Predictor::new`].
    pub fn with_isa(
        config: &DenseNetConfig,
        state: &StateDict,
        isa: Isa,
    ) -> Result<Self, NetworkError> {
        let dtype = Dtype::F32;
        Self::with_options(config, state, &PredictorOptions { isa, dtype })
    }

    /// [`Predictor::new`] for a given instruction set and numbers.
    ///
    /// # Errors
    /// As [`Predictor::new`].
    pub fn with_options(
        config: &DenseNetConfig,
        state: &StateDict,
        options: &PredictorOptions,
    ) -> Result<Self, NetworkError> {
        let plan = Plan::new(config)?;
        let norms = Norms::new(&plan, state, options.dtype)?;
        let packer = Packer {
            plan: &plan,
            norms: &norms,
            options: *options,
        };
        let weights = weights::Store::Kept(Box::new(packer.all(state)?));
        Self::assemble(plan, norms, weights, state, options)
    }

    /// The logits and `taps` of a single input, packing each weight when it is needed and giving its memory back after:
    /// half of what a [`Predictor`] holds, and the first answer sooner.
    ///
    /// # Errors
    /// As [`Predictor::new`] and [`Predictor::run_with_taps`].
    pub fn run_once(
        config: &DenseNetConfig,
        weights: impl Weights + 'static,
        options: &PredictorOptions,
        input: Input<'_>,
        taps: &[&str],
    ) -> Result<Output, NetworkError> {
        if input.batch != 1 {
            // Early layers see a batch a few samples at a time, so they need their weights again.
            let state = weights.all()?;
            let predictor = Self::with_options(config, &state, options)?;
            drop(state);
            return predictor.run_with_taps(input, taps);
        }
        let plan = Plan::new(config)?;
        let none = weights::Store::Once(Mutex::new(Box::new(StateDict::new())));
        let norms = Norms::new(&plan, weights.vectors(), options.dtype)?;
        let mut predictor = Self::assemble(plan, norms, none, weights.vectors(), options)?;
        predictor.weights = weights::Store::Once(Mutex::new(Box::new(weights)));
        predictor.run_with_taps(input, taps)
    }

    /// All of it, with the classifier's bias.
    fn assemble(
        plan: Plan,
        norms: Norms,
        weights: weights::Store,
        state: &StateDict,
        options: &PredictorOptions,
    ) -> Result<Self, NetworkError> {
        let linear = &plan.classifier;
        let widest = plan.blocks.iter().map(|block| block.c_out).max();
        Ok(Predictor {
            options: *options,
            norms,
            weights,
            ones: vec![1.0; linear.c_out.max(widest.unwrap_or(0))],
            bias: plan.table.entries[linear.parameter + 1].loaded(state)?,
            idle: Mutex::new(Vec::new()),
            plan,
        })
    }

    /// The network's architecture.
    pub fn architecture(&self) -> &Architecture {
        &self.plan.architecture
    }

    /// The instruction set it was compiled for.
    pub fn isa(&self) -> Isa {
        self.options.isa
    }

    /// The numbers it computes with.
    pub fn dtype(&self) -> Dtype {
        self.options.dtype
    }

    /// The logits, `[batch, num_classes]`.
    ///
    /// # Errors
    /// The input is too small for the network or its length does not fit its shape.
    pub fn run(&self, input: Input<'_>) -> Result<Vec<f32>, NetworkError> {
        self.execute(input, &mut Taps::none(), &mut |_, _| {}, None)
    }

    /// The logits and the outputs of the layers or stages named in `taps`; [`Architecture::resolve`] says which names
    /// there are.
    ///
    /// # Errors
    /// As [`Predictor::run`], and for names that do not exist.
    pub fn run_with_taps(&self, input: Input<'_>, taps: &[&str]) -> Result<Output, NetworkError> {
        let mut taps = Taps::new(&self.plan.architecture, taps)?;
        let logits = self.execute(input, &mut taps, &mut |_, _| {}, None)?;
        Ok(Output {
            logits,
            taps: taps.finish(),
        })
    }

    /// The pyramid for use as a backbone: the outputs of the stem, every dense block, and the final norm with its ReLU
    /// (where the network has one), from the finest to the coarsest.
    ///
    /// # Errors
    /// As [`Predictor::run`].
    pub fn features(&self, input: Input<'_>) -> Result<Vec<Feature>, NetworkError> {
        let names: Vec<&str> = self
            .plan
            .architecture
            .stages()
            .iter()
            .filter_map(|s| match s.kind {
                StageKind::Stem | StageKind::DenseBlock(_) => Some(s.name.as_str()),
                StageKind::FinalNorm => Some("relu5"),
                _ => None,
            })
            .collect();
        Ok(self.run_with_taps(input, &names)?.taps)
    }

    /// [`Predictor::run`] with the wall time of each stage.
    ///
    /// # Errors
    /// As [`Predictor::run`].
    pub fn run_timed(&self, input: Input<'_>) -> Result<(Vec<f32>, Vec<StageTime>), NetworkError> {
        let mut times = Vec::new();
        let logits = self.execute(
            input,
            &mut Taps::none(),
            &mut |stage, time| {
                let name = self.plan.architecture.stages()[stage].name.clone();
                times.push(StageTime { name, time });
            },
            None,
        )?;
        Ok((logits, times))
    }

    /// [`Predictor::run`] with the wall time of each kernel, by stage.
    ///
    /// # Errors
    /// As [`Predictor::run`].
    pub fn run_profiled(
        &self,
        input: Input<'_>,
    ) -> Result<(Vec<f32>, Vec<KernelTime>), NetworkError> {
        let mut kernels = Vec::new();
        let logits = self.execute(input, &mut Taps::none(), &mut |_, _| {}, Some(&mut kernels))?;
        Ok((logits, kernels))
    }

    fn execute(
        &self,
        input: Input<'_>,
        taps: &mut Taps,
        finished: &mut dyn FnMut(usize, Duration),
        kernels: Option<&mut Vec<KernelTime>>,
    ) -> Result<Vec<f32>, NetworkError> {
        let trace = input.trace(&self.plan)?;
        if input.batch == 0 {
            return Ok(Vec::new());
        }
        self.prepare(&trace)?;
        let schedule = Schedule::new(&self.plan, &trace, input.batch, taps.is_empty());
        let sizes = Sizes::new(&self.plan, &trace, &schedule);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut work = idle.pop().unwrap_or_default();
        drop(idle);
        work.reserve(&sizes);
        let mut run = Run::new(self, &trace, &mut work, taps, kernels);
        let result = together(|| run.all(input, &schedule));
        for (stage, time) in run.times.iter().enumerate() {
            // The final norm is part of the classifier's pass.
            if !time.is_zero() {
                finished(stage, *time);
            }
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(work);
        result
    }

    /// Prepares kept weights as a run of this size takes them; nothing is left to do after the first.
    fn prepare(&self, trace: &Trace) -> Result<(), NetworkError> {
        let weights::Store::Kept(packed) = &self.weights else {
            return Ok(());
        };
        let stem = &self.plan.stem.conv;
        packed.stem.prepare(stem, trace.layers[0].spatial)?;
        let blocks = self.plan.blocks.iter().zip(&packed.blocks);
        let layers = blocks.flat_map(|(block, weights)| block.layers.iter().zip(weights));
        let layers: Vec<_> = layers.collect();
        let bf16 = self.options.dtype == Dtype::Bf16;
        let (kept, _) = transformed(&self.plan, trace, bf16 && self.options.isa.has_bf16());
        layers.into_par_iter().try_for_each(|(layer, weights)| {
            let spatial = trace.layers[layer.index].spatial;
            weights.last.prepare(layer.last(), spatial, kept)
        })?;
        Ok(())
    }

    fn packer(&self) -> Packer<'_> {
        Packer {
            plan: &self.plan,
            norms: &self.norms,
            options: self.options,
        }
    }

    fn affine(&self, norm: &Norm) -> Affine<'_> {
        self.norms.affine(norm)
    }
}

#[cfg(test)]
mod tests {
    use densenet_spec::{Stem, preset};
    use densenet_weights::{InitMode, initialize};

    use super::*;

    /// A large image's kernels are transformed when their layer comes, a small one's are kept, and the logits are the same.
    #[test]
    fn kernels_made_anew_change_nothing() {
        let config = DenseNetConfig {
            growth_rate: 8,
            block_config: vec![2],
            num_init_features: 8,
            stem: Stem::small(2),
            ..preset("densenet121").unwrap().config(2).unwrap()
        };
        let architecture = Architecture::new(&config).unwrap();
        let state = initialize(&architecture, 3, InitMode::FanOut);
        let predictor = Predictor::new(&config, &state).unwrap();
        let (plan, spatial) = (&predictor.plan, [1, 160, 160]);
        let (trace, small) = (
            architecture.trace(spatial).unwrap(),
            architecture.trace([1, 32, 32]).unwrap(),
        );
        let (kept, one) = transformed(plan, &trace, false);
        assert!(!kept);
        assert_eq!(transformed(plan, &small, false), (true, 2 * one));
        let data: Vec<f32> = (0..3 * 160 * 160).map(|i| (i as f32).sin()).collect();
        let input = Input {
            data: &data,
            batch: 1,
            spatial,
        };
        let made = predictor.run(input).unwrap();
        let weights::Store::Kept(packed) = &predictor.weights else {
            unreachable!("a predictor keeps its weights");
        };
        for (layer, weights) in plan.blocks[0].layers.iter().zip(&packed.blocks[0]) {
            let spatial = trace.layers[layer.index].spatial;
            weights.last.prepare(layer.last(), spatial, true).unwrap();
        }
        assert_eq!(made, predictor.run(input).unwrap());
    }
}
