//! The network for training.
//!
//! One step is `forward`, a loss outside, `backward`; the optimiser works on the flat arenas. Batch statistics of a
//! channel are computed once, when it is written; the backward pass follows [`densenet_kernels::norm`]'s formula.

mod activations;
mod backward;
mod forward;
mod gradients;
mod overlay;
mod packed;
mod prepared;
mod shares;
mod statistics;

use densenet_kernels::{Buffer, Isa};
use densenet_spec::{ConfigError, DenseNetConfig, Named};
use densenet_weights::StateDict;

use crate::{NetworkError, parameters::ParameterView, plan::Plan};
use activations::Activations;
pub(crate) use activations::Sizes;
use gradients::Gradients;
pub use gradients::Part;
use packed::Packed;
use prepared::Prepared;
use shares::Shares;
use statistics::Statistics;

/// How a network is trained.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkOptions {
    /// Recompute each layer's bottleneck and the stem's map in the backward pass instead of keeping them: a fraction of the
    /// memory for one more 1×1 convolution a layer and one more stem, and not one bit of difference.
    pub memory_efficient: bool,
    /// Stages that are not trained, by name (`stem`, `denseblock1`, …, or `features` for all but the classifier). Their
    /// parameters get no gradient; their norms use the running statistics and leave them alone.
    pub frozen: Vec<String>,
    /// Seed of dropout's masks.
    pub dropout_seed: u64,
}

/// A network in training: parameters, gradients, running statistics, and the memory of a step.
pub struct Network {
    isa: Isa,
    plan: Plan,
    memory_efficient: bool,
    dropout_seed: u64,
    /// Per stage.
    frozen: Vec<bool>,
    views: Vec<ParameterView>,
    parameters: Buffer,
    gradients: Gradients,
    buffers: Buffer,
    num_batches_tracked: u64,
    /// The weight at hand, packed.
    packed: Packed,
    statistics: Statistics,
    activations: Activations,
    shares: Shares,
    /// Shapes of the last batch.
    prepared: Option<Prepared>,
    /// What the last forward pass saw, if its activations are still there.
    last: Option<LastPass>,
}

/// The forward pass that `backward` goes back through.
#[derive(Debug, Clone, Copy)]
struct LastPass {
    batch: usize,
    spatial: [usize; 3],
    step: u64,
    /// Whether a backward pass has used up its activations.
    spent: bool,
}

impl Network {
    /// A network with the weights `state`.
    ///
    /// # Errors
    /// The configuration cannot work, a tensor is missing or misshaped, or a frozen stage's name is unknown.
    pub fn new(
        config: &DenseNetConfig,
        state: &StateDict,
        options: &NetworkOptions,
    ) -> Result<Self, NetworkError> {
        let isa = Isa::active().map_err(NetworkError::Isa)?;
        Self::with_isa(config, state, options, isa)
    }

    /// [`Network::new`] for a given instruction set.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn with_isa(
        config: &DenseNetConfig,
        state: &StateDict,
        options: &NetworkOptions,
        isa: Isa,
    ) -> Result<Self, NetworkError> {
        let plan = Plan::new(config)?;
        let frozen = frozen_stages(&plan, &options.frozen)?;
        let mut parameters = Buffer::zeroed(plan.table.learned);
        let mut buffers = Buffer::zeroed(plan.table.buffers);
        plan.table.load(state, &mut parameters, &mut buffers)?;
        let learned = plan
            .table
            .entries
            .iter()
            .filter(|e| e.parameter.kind.is_learned());
        let views = learned.map(|entry| ParameterView {
            name: entry.parameter.name.clone(),
            range: entry.range.clone(),
            kind: entry.parameter.kind,
            trainable: !frozen[plan.architecture.layers()[entry.parameter.layer].stage],
        });
        Ok(Network {
            views: views.collect(),
            gradients: Gradients::new(&plan),
            packed: Packed::new(isa, &plan),
            statistics: Statistics::new(&plan),
            activations: Activations::default(),
            shares: Shares::new(&plan),
            isa,
            memory_efficient: options.memory_efficient,
            dropout_seed: options.dropout_seed,
            frozen,
            parameters,
            buffers,
            num_batches_tracked: 0,
            prepared: None,
            last: None,
            plan,
        })
    }

    /// Its configuration.
    pub fn config(&self) -> &DenseNetConfig {
        self.plan.architecture.config()
    }

    /// The learned parameters, flat; [`Network::views`] names the ranges. Elements between the ranges are zero.
    pub fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// The learned parameters, to be changed.
    pub fn parameters_mut(&mut self) -> &mut [f32] {
        &mut self.parameters
    }

    /// The gradients, laid out as the parameters.
    pub fn gradients(&self) -> &[f32] {
        self.gradients.whole()
    }

    /// The gradients, to be changed.
    pub fn gradients_mut(&mut self) -> &mut [f32] {
        self.gradients.whole_mut()
    }

    /// Parameters and gradients at once, for an optimiser.
    pub fn parameters_and_gradients_mut(&mut self) -> (&mut [f32], &mut [f32]) {
        (&mut self.parameters, self.gradients.whole_mut())
    }

    /// The running statistics, flat.
    pub fn buffers(&self) -> &[f32] {
        &self.buffers
    }

    /// The running statistics, to be changed.
    pub fn buffers_mut(&mut self) -> &mut [f32] {
        &mut self.buffers
    }

    /// Names, ranges and kinds of the learned parameters.
    pub fn views(&self) -> &[ParameterView] {
        &self.views
    }

    /// Batches whose statistics went into the running ones.
    pub fn num_batches_tracked(&self) -> u64 {
        self.num_batches_tracked
    }

    /// Sets the number of batches tracked, when a run is resumed.
    pub fn set_num_batches_tracked(&mut self, batches: u64) {
        self.num_batches_tracked = batches;
    }

    /// Parameters and running statistics under PyTorch's names and in its layouts.
    pub fn state_dict(&self) -> StateDict {
        self.state_dict_of(&self.parameters, &self.buffers)
    }

    /// [`Network::state_dict`] of other arenas of the same layout, e.g. averaged weights.
    pub fn state_dict_of(&self, parameters: &[f32], buffers: &[f32]) -> StateDict {
        self.plan.table.store(parameters, Some(buffers))
    }

    /// The gradients under PyTorch's names and in its layouts.
    pub fn gradient_dict(&self) -> StateDict {
        self.plan.table.store(self.gradients.whole(), None)
    }

    /// Replaces parameters and running statistics.
    ///
    /// # Errors
    /// A tensor is missing or misshaped.
    pub fn load_state_dict(&mut self, state: &StateDict) -> Result<(), NetworkError> {
        self.plan
            .table
            .load(state, &mut self.parameters, &mut self.buffers)
    }

    /// Sets the gradients to zero.
    pub fn zero_grad(&mut self) {
        self.gradients.clear();
    }
}

/// Which stages the names in `frozen` mean.
fn frozen_stages(plan: &Plan, names: &[String]) -> Result<Vec<bool>, NetworkError> {
    let stages = plan.architecture.stages();
    let mut frozen = vec![false; stages.len()];
    for name in names {
        if name == "features" {
            frozen[..stages.len() - 1].fill(true);
            continue;
        }
        match plan.architecture.resolve(name)? {
            Named::Stage(stage) => frozen[stage] = true,
            Named::Layer(_) => {
                let names: Vec<_> = stages.iter().map(|s| s.name.as_str()).collect();
                return Err(ConfigError {
                    field: "freeze",
                    value: name.clone(),
                    reason: format!("whole stages are frozen: features, {}", names.join(", ")),
                }
                .into());
            }
        }
    }
    Ok(frozen)
}
