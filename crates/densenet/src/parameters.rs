//! Named tensors in PyTorch's layouts ↔ flat arenas in the kernels' layouts.
//!
//! The arenas hold convolutions as `[tap][c_in][c_out]`, the classifier as `[c_in][c_out]`, and channels in the order in
//! which a dense block's buffer holds them. That order differs from the network's own only where new features come
//! first (`[new, old]`); it is undone here and nowhere else.

use std::ops::Range;
use std::sync::Arc;

use densenet_spec::{Architecture, Op, Parameter, ParameterKind, StageKind, physical_channels};
use densenet_weights::{StateDict, Tensor};

use crate::{NetworkError, Weights};

/// Where a learned parameter lies in the flat parameter arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterView {
    /// torchvision's path.
    pub name: String,
    /// Its elements.
    pub range: Range<usize>,
    /// What it is for.
    pub kind: ParameterKind,
    /// Whether its stage is trained (not frozen).
    pub trainable: bool,
}

/// Every tensor's place and layout.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    /// In the order of [`Architecture::parameters`].
    pub entries: Vec<Entry>,
    /// Length of the arena of learned parameters.
    pub learned: usize,
    /// Length of the arena of running statistics.
    pub buffers: usize,
}

/// One tensor.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub parameter: Parameter,
    /// In the arena of learned parameters or of running statistics, by `parameter.kind`.
    pub range: Range<usize>,
    layout: Layout,
}

#[derive(Debug, Clone)]
struct Layout {
    c_out: usize,
    taps: usize,
    /// Place in the arena of each input channel (of each element, for vectors); `None` where it is the same.
    order: Option<Arc<[usize]>>,
}

/// Elements between the starts of two tensors are a multiple of a cache line.
const ALIGN: usize = 16;

impl Table {
    pub(crate) fn new(architecture: &Architecture) -> Self {
        let (mut learned, mut buffers) = (0, 0);
        let mut orders = Orders::new(architecture);
        let entries = architecture
            .parameters()
            .iter()
            .map(|parameter| {
                let end = if parameter.kind.is_learned() {
                    &mut learned
                } else {
                    &mut buffers
                };
                let range = *end..*end + parameter.len();
                *end = range.end.next_multiple_of(ALIGN);
                let (c_out, taps) = match parameter.kind {
                    ParameterKind::ConvWeight | ParameterKind::LinearWeight => {
                        (parameter.shape[0], parameter.shape[2..].iter().product())
                    }
                    _ => (1, 1),
                };
                let order = orders.of(parameter);
                Entry {
                    parameter: parameter.clone(),
                    range,
                    layout: Layout { c_out, taps, order },
                }
            })
            .collect();
        Table {
            entries,
            learned,
            buffers,
        }
    }

    /// Copies a state dict into the arenas.
    ///
    /// # Errors
    /// A tensor is missing or misshaped. Further tensors are ignored: files are read strictly elsewhere.
    pub(crate) fn load(
        &self,
        state: &StateDict,
        learned: &mut [f32],
        buffers: &mut [f32],
    ) -> Result<(), NetworkError> {
        for entry in &self.entries {
            let learned_one = entry.parameter.kind.is_learned();
            let arena = if learned_one {
                &mut *learned
            } else {
                &mut *buffers
            };
            entry.load(state, &mut arena[entry.range.clone()])?;
        }
        Ok(())
    }

    /// The learned parameters (or their gradients) as named tensors, with the running statistics if given.
    pub(crate) fn store(&self, learned: &[f32], buffers: Option<&[f32]>) -> StateDict {
        let mut state = StateDict::new();
        for entry in &self.entries {
            let arena = match (entry.parameter.kind.is_learned(), buffers) {
                (true, _) => learned,
                (false, Some(buffers)) => buffers,
                (false, None) => continue,
            };
            let source = &arena[entry.range.clone()];
            let mut data = vec![0.0; source.len()];
            entry
                .layout
                .visit(source.len(), |ours, theirs| data[theirs] = source[ours]);
            let tensor = Tensor {
                shape: entry.parameter.shape.clone(),
                data,
            };
            state.insert(entry.parameter.name.clone(), tensor);
        }
        state
    }
}

impl Entry {
    /// Copies the tensor from a state dict into its place of an arena.
    ///
    /// # Errors
    /// It is missing or misshaped.
    pub(crate) fn load(&self, state: &StateDict, target: &mut [f32]) -> Result<(), NetworkError> {
        self.arrange(state.get(&self.parameter.name), target)
    }

    /// [`Entry::loaded`] of a tensor that is taken out of its source for good.
    ///
    /// # Errors
    /// As [`Entry::load`], or what keeps the source from giving it.
    pub(crate) fn take(&self, source: &mut dyn Weights) -> Result<Vec<f32>, NetworkError> {
        let tensor = source.take(&self.parameter.name)?;
        let mut values = vec![0.0; self.parameter.len()];
        self.arrange(tensor.as_ref(), &mut values)?;
        Ok(values)
    }

    fn arrange(&self, tensor: Option<&Tensor>, target: &mut [f32]) -> Result<(), NetworkError> {
        let Parameter { name, shape, .. } = &self.parameter;
        let fits = |t: &&Tensor| t.shape == *shape && t.data.len() == self.parameter.len();
        let Some(fitting) = tensor.filter(fits) else {
            return Err(NetworkError::Tensor {
                name: name.clone(),
                expected: shape.clone(),
                found: tensor.map_or("none".into(), |t| format!("{:?}", t.shape)),
            });
        };
        self.layout.visit(target.len(), |ours, theirs| {
            target[ours] = fitting.data[theirs]
        });
        Ok(())
    }

    /// [`Entry::load`] into memory of its own.
    ///
    /// # Errors
    /// As [`Entry::load`].
    pub(crate) fn loaded(&self, state: &StateDict) -> Result<Vec<f32>, NetworkError> {
        let mut values = vec![0.0; self.parameter.len()];
        self.load(state, &mut values)?;
        Ok(values)
    }
}

impl Layout {
    /// Calls `visit(index in the arena, index in PyTorch's tensor)` for every element.
    fn visit(&self, len: usize, mut visit: impl FnMut(usize, usize)) {
        let c_in = len / (self.c_out * self.taps).max(1);
        // A few output channels at a time, so that both sides are walked through in cache lines.
        for first in (0..self.c_out).step_by(16) {
            let block = first..(first + 16).min(self.c_out);
            for tap in 0..self.taps {
                for c in 0..c_in {
                    let place = self.order.as_ref().map_or(c, |order| order[c]);
                    for o in block.clone() {
                        visit(
                            (tap * c_in + place) * self.c_out + o,
                            (o * c_in + c) * self.taps + tap,
                        );
                    }
                }
            }
        }
    }
}

/// Finds the channel order of what each layer reads.
struct Orders<'a> {
    architecture: &'a Architecture,
    /// The last answer and the layer it was for: a layer's tensors come one after the other.
    last: Option<(usize, Option<Arc<[usize]>>)>,
}

impl<'a> Orders<'a> {
    fn new(architecture: &'a Architecture) -> Self {
        Orders {
            architecture,
            last: None,
        }
    }

    fn of(&mut self, parameter: &Parameter) -> Option<Arc<[usize]>> {
        if matches!(parameter.kind, ParameterKind::LinearBias) {
            return None;
        }
        if let Some((layer, order)) = &self.last
            && *layer == parameter.layer
        {
            return order.clone();
        }
        let order = channel_order(self.architecture, parameter.layer).map(Arc::from);
        self.last = Some((parameter.layer, order.clone()));
        order
    }
}

/// The place in the dense block's buffer of each channel that `layer` reads, where the layer reads such a buffer and the
/// order is not the same.
pub(crate) fn channel_order(architecture: &Architecture, layer: usize) -> Option<Vec<usize>> {
    let config = architecture.config();
    let layer = &architecture.layers()[layer];
    let stage = &architecture.stages()[layer.stage];
    // Which block's buffer is read, and after how many of its layers.
    let (block, done) = match stage.kind {
        StageKind::DenseBlock(b) => {
            let block = &architecture.blocks()[b];
            let done = block.layers.iter().position(|l| l.c_in == layer.c_in);
            let first = layer.name.ends_with(".norm1")
                || layer.name.ends_with(".conv1")
                || layer.name.ends_with(".relu1");
            (block, if first { done? } else { return None })
        }
        StageKind::Transition(b)
            if layer.c_in == stage.c_in && layer.op.window().is_none_or(|w| w.taps() == 1) =>
        {
            let block = &architecture.blocks()[b];
            (block, block.layers.len())
        }
        StageKind::FinalNorm => {
            let block = architecture.blocks().last()?;
            (block, block.layers.len())
        }
        StageKind::Classifier if matches!(layer.op, Op::Linear | Op::GlobalAvgPool) => {
            let block = architecture.blocks().last()?;
            (block, block.layers.len())
        }
        _ => return None,
    };
    let order = physical_channels(config.concat_order, block.c_in, config.growth_rate, done);
    (!order.iter().enumerate().all(|(i, p)| i == *p)).then_some(order)
}
