//! Along the architecture and the list of operations at once.

use densenet_spec::{Architecture, ConcatOrder, Layer, Op, Parameter, Window};
use densenet_weights::{StateDict, Tensor};

use super::{
    attributes::refuse,
    constants::{Constant, Tensors},
    operations::{Kind, Operation, Operations, Source},
};
use crate::{error::OnnxError, proto::NodeProto, walk};

/// A network's tensors, and what was done to get them.
pub(super) struct Assembled {
    pub state: StateDict,
    pub notes: Vec<String>,
}

/// Holds every operation against the next layer and takes its tensors.
///
/// # Errors
/// The first operation that is not the next layer; tensors that are misshaped or cannot be read.
pub(super) fn assemble(
    architecture: &Architecture,
    graph: &Operations<'_>,
    tensors: Tensors,
) -> Result<Assembled, OnnxError> {
    let mut walk = Walk {
        architecture,
        list: &graph.list,
        tensors,
        next: 0,
        current: vec![Source::Input],
        trunk: Vec::new(),
        bias: None,
        state: StateDict::new(),
        folded: 0,
        shifted: 0,
    };
    for (index, layer) in architecture.layers().iter().enumerate() {
        walk.layer(index, layer)?;
    }
    if let Some(left) = graph.list.get(walk.next) {
        return Err(refuse(left.node, "it is no part of the DenseNet around it"));
    }
    let notes = walk.notes();
    Ok(Assembled {
        state: walk.state,
        notes,
    })
}

struct Walk<'a, 'g> {
    architecture: &'a Architecture,
    list: &'g [Operation<'g>],
    tensors: Tensors,
    /// The operation that has to be the next layer.
    next: usize,
    /// Whose channels the next layer reads.
    current: Vec<Source>,
    /// Whose channels the current dense layer read.
    trunk: Vec<Source>,
    /// The bias of the convolution before the norm that follows.
    bias: Option<Vec<f32>>,
    state: StateDict,
    /// Norms that had become part of a convolution.
    folded: usize,
    /// Norms whose mean took up a convolution's bias.
    shifted: usize,
}

impl<'a, 'g> Walk<'a, 'g> {
    fn layer(&mut self, index: usize, layer: &Layer) -> Result<(), OnnxError> {
        if walk::opens_dense_layer(self.architecture, index) {
            self.trunk = self.current.clone();
        }
        match layer.op {
            // The identity outside training, and gone from every graph.
            Op::Dropout => Ok(()),
            Op::Concat => {
                let (old, new) = (&self.trunk, &self.current);
                self.current = match self.architecture.config().concat_order {
                    ConcatOrder::OldNew => [old.as_slice(), new].concat(),
                    ConcatOrder::NewOld => [new.as_slice(), old].concat(),
                };
                Ok(())
            }
            Op::Conv(window) => self.conv(index, layer, window),
            Op::BatchNorm => self.norm(index, layer),
            Op::Linear => self.linear(layer),
            Op::Relu => self.plain(layer, |kind| matches!(kind, Kind::Relu)),
            Op::MaxPool(window) => self.plain(
                layer,
                |kind| matches!(kind, Kind::MaxPool(found) if *found == window),
            ),
            Op::AvgPool(window) => self.plain(
                layer,
                |kind| matches!(kind, Kind::AvgPool(found) if *found == window),
            ),
            Op::GlobalAvgPool => self.plain(layer, |kind| matches!(kind, Kind::GlobalAvgPool)),
        }
    }

    /// The next operation, which has to be `layer`.
    fn take(
        &mut self,
        layer: &Layer,
        is_it: impl Fn(&Kind<'_>) -> bool,
    ) -> Result<&'g Operation<'g>, OnnxError> {
        let Some(operation) = self.list.get(self.next) else {
            return Err(OnnxError::unsupported(
                format!("its graph ends before {}", layer.name),
                "export a whole DenseNet, from its input to its classifier",
            ));
        };
        if !is_it(&operation.kind) {
            let window = layer.op.window().map(said).unwrap_or_default();
            let what = format!(
                "{} {}{window} is expected here",
                layer.op.name(),
                layer.name
            );
            return Err(refuse(operation.node, what));
        }
        if operation.inputs[..] != self.current[..] {
            let what = format!("{} reads other channels, or in another order", layer.name);
            return Err(refuse(operation.node, what));
        }
        self.current = vec![Source::Operation(self.next)];
        self.next += 1;
        Ok(operation)
    }

    /// A layer without tensors.
    fn plain(&mut self, layer: &Layer, is_it: impl Fn(&Kind<'_>) -> bool) -> Result<(), OnnxError> {
        self.take(layer, is_it).map(drop)
    }

    fn conv(&mut self, index: usize, layer: &Layer, window: Window) -> Result<(), OnnxError> {
        let operation = self.take(
            layer,
            |kind| matches!(kind, Kind::Conv { window: found, .. } if *found == window),
        )?;
        let Kind::Conv { weight, bias, .. } = &operation.kind else {
            return Ok(());
        };
        self.store(operation.node, layer, &[("weight", weight)])?;
        let bias = match bias {
            None => None,
            Some(bias) => {
                let data = self
                    .tensors
                    .read(operation.node, "bias", bias, &[layer.c_out])?;
                Some(data).filter(|data| data.iter().any(|&value| value != 0.0))
            }
        };
        if bias.is_some() && walk::norm_behind(self.architecture, index).is_none() {
            return Err(refuse(
                operation.node,
                "it has a bias, and no norm of its own behind it",
            ));
        }
        self.bias = bias;
        Ok(())
    }

    fn norm(&mut self, index: usize, layer: &Layer) -> Result<(), OnnxError> {
        let bias = self.bias.take();
        let next = self.list.get(self.next).map(|operation| &operation.kind);
        let before = index.checked_sub(1);
        let foldable =
            before.is_some_and(|before| walk::norm_behind(self.architecture, before).is_some());
        if foldable && !matches!(next, Some(Kind::Norm { .. })) {
            self.unfold(layer, bias);
            return Ok(());
        }
        let operation = self.take(layer, |kind| matches!(kind, Kind::Norm { .. }))?;
        let Kind::Norm {
            tensors: [gamma, beta, mean, var],
            epsilon,
            ..
        } = &operation.kind
        else {
            return Ok(());
        };
        let eps = self.architecture.config().bn_eps;
        if *epsilon != eps as f32 {
            let what = format!("its epsilon is {epsilon} where the network's is {eps}");
            return Err(refuse(operation.node, what));
        }
        let tensors = [
            ("scale", gamma),
            ("bias", beta),
            ("mean", mean),
            ("variance", var),
        ];
        self.store(operation.node, layer, &tensors)?;
        if let Some(bias) = bias {
            // norm(x + b) with mean μ is norm(x) with mean μ − b.
            let mean = self.state.get_mut(&format!("{}.running_mean", layer.name));
            for (mean, bias) in mean.into_iter().flat_map(|mean| &mut mean.data).zip(bias) {
                *mean -= bias;
            }
            self.shifted += 1;
        }
        Ok(())
    }

    /// A norm that scales by 1 and adds the bias of the convolution that has swallowed it: γ = 1, μ = 0, and
    /// σ² = 1 − ε, since ε will be added to it.
    fn unfold(&mut self, layer: &Layer, bias: Option<Vec<f32>>) {
        let channels = layer.c_out;
        let var = (1.0 - self.architecture.config().bn_eps) as f32;
        let bias = bias.unwrap_or_else(|| vec![0.0; channels]);
        let values = [
            vec![1.0; channels],
            bias,
            vec![0.0; channels],
            vec![var; channels],
        ];
        for (parameter, data) in parameters(self.architecture, layer).iter().zip(values) {
            let shape = parameter.shape.clone();
            self.state
                .insert(parameter.name.clone(), Tensor { shape, data });
        }
        self.folded += 1;
    }

    fn linear(&mut self, layer: &Layer) -> Result<(), OnnxError> {
        let operation = self.take(layer, |kind| matches!(kind, Kind::Linear { .. }))?;
        let Kind::Linear { weight, bias } = &operation.kind else {
            return Ok(());
        };
        let none = Constant::Fill(0.0);
        let bias = bias.as_ref().unwrap_or(&none);
        self.store(operation.node, layer, &[("weight", weight), ("bias", bias)])
    }

    /// Reads tensors in the order of the layer's parameters.
    fn store(
        &mut self,
        node: &NodeProto,
        layer: &Layer,
        tensors: &[(&str, &Constant<'_>)],
    ) -> Result<(), OnnxError> {
        for (parameter, (what, constant)) in
            parameters(self.architecture, layer).iter().zip(tensors)
        {
            let data = self.tensors.read(node, what, constant, &parameter.shape)?;
            let shape = parameter.shape.clone();
            self.state
                .insert(parameter.name.clone(), Tensor::new(shape, data)?);
        }
        Ok(())
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.folded > 0 {
            notes.push(format!(
                "{} had become part of the convolution before; now each adds that convolution's bias and changes \
                 nothing else",
                counted(self.folded, "batch norm")
            ));
        }
        if self.shifted > 0 {
            notes.push(format!(
                "{} took up the bias of the convolution before",
                counted(self.shifted, "batch norm's mean")
            ));
        }
        if self.tensors.converted > 0 {
            let tensors = counted(self.tensors.converted, "tensor");
            notes.push(format!("{tensors} of another precision became f32"));
        }
        notes
    }
}

/// The layer's parameters in their order.
fn parameters<'a>(architecture: &'a Architecture, layer: &Layer) -> &'a [Parameter] {
    architecture
        .parameters()
        .get(layer.parameters.clone())
        .unwrap_or_default()
}

/// `1 tensor`, `2 tensors`
fn counted(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// A window, said in an error.
fn said(window: Window) -> String {
    let Window {
        kernel,
        stride,
        padding,
    } = window;
    format!(" (kernel {kernel:?}, stride {stride:?}, padding {padding:?})")
}
