//! What a network will need in memory.

use densenet_kernels::Isa;
use densenet_spec::Architecture;

use crate::{NetworkError, network, plan::Plan, predictor};

/// Bytes that the engine allocates for parameters, activations and scratch buffers of one pass.
///
/// The program itself and, while training, the loader's images come on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Making a [`crate::Predictor`] from a loaded model and running it: the weights as loaded, as packed,
    /// and the kernels transformed for maps of this size.
    pub infer_bytes: usize,
    /// A [`crate::Network`] and one step: the weights as loaded, parameters, one optimiser state of the same size, the
    /// gradients of one part at a time, activations.
    pub train_bytes: usize,
    /// The same with `memory_efficient`.
    pub train_memory_efficient_bytes: usize,
    /// What a step needs besides where the whole gradient is waited for (clipping, accumulation).
    pub whole_gradient_bytes: usize,
}

/// What inference and training on inputs of `[depth, height, width]` in batches of `batch` allocate, computed from the
/// same sizes that the engine uses.
///
/// # Errors
/// The input is too small for the network.
pub fn estimate(
    architecture: &Architecture,
    spatial: [usize; 3],
    batch: usize,
) -> Result<Memory, NetworkError> {
    let isa = Isa::active().map_err(NetworkError::Isa)?;
    let plan = Plan::new(architecture.config())?;
    let trace = architecture.trace(spatial)?;
    let parameters = plan.table.learned * size_of::<f32>();
    let buffers = plan.table.buffers * size_of::<f32>();
    let schedule = predictor::Schedule::new(&plan, &trace, batch, true);
    let run = predictor::Sizes::new(&plan, &trace, &schedule).total() * size_of::<f32>();
    let (_, transformed) = predictor::transformed(&plan, &trace, false);
    let part = plan.longest_part() * size_of::<f32>();
    let train = |memory_efficient| {
        let step = network::Sizes::new(&plan, &trace, batch, memory_efficient, isa).bytes();
        // The loaded model, parameters, a momentum.
        3 * parameters + 2 * buffers + part + step
    };
    Ok(Memory {
        infer_bytes: 2 * parameters
            + buffers
            + (plan.folded + transformed) * size_of::<f32>()
            + run,
        train_bytes: train(false),
        train_memory_efficient_bytes: train(true),
        whole_gradient_bytes: parameters - part,
    })
}
