//! Which network a list of operations can be.
//!
//! Only what is needed to name a configuration is looked at; whether everything else fits, the walk along the
//! architecture finds out.

use densenet_spec::{ConcatOrder, DenseNetConfig, Stem, compression_of};

use super::{
    attributes::refuse,
    operations::{Kind, Operation, Operations, Source},
};
use crate::error::OnnxError;

/// The configuration in the metadata, unless the graph is far too small for it.
pub(super) fn plausible(
    config: &DenseNetConfig,
    graph: &Operations<'_>,
) -> Result<DenseNetConfig, OnnxError> {
    // Spelling out a network costs memory; one that the graph cannot possibly be is not spelled out.
    let layers = config
        .block_config
        .iter()
        .fold(0usize, |sum, &layers| sum.saturating_add(layers));
    if layers > graph.list.len() {
        return Err(OnnxError::malformed(format!(
            "its metadata speak of {layers} dense layers, its graph has {} operations",
            graph.list.len()
        )));
    }
    Ok(config.clone())
}

/// The configuration of the network that the graph computes.
///
/// What only training knows (dropout) has its default.
///
/// # Errors
/// The node at which the graph stops being like a DenseNet's.
pub(super) fn infer(graph: &Operations<'_>) -> Result<DenseNetConfig, OnnxError> {
    let list = graph.list.as_slice();
    let kind = |index: usize| list.get(index).map(|operation| &operation.kind);
    let (Some(first), Some(Kind::Conv { window, .. })) = (list.first(), kind(0)) else {
        return Err(unlike(list.first(), "a DenseNet begins with a convolution"));
    };
    let [num_init_features, in_channels] = channels(first)?;

    let folded = matches!(kind(1), Some(Kind::Relu));
    let separate = matches!((kind(1), kind(2)), (Some(Kind::Norm { .. }), Some(Kind::Relu)))
        // A norm that opens the first dense layer is followed by that layer's convolution.
        && !matches!(kind(3), Some(Kind::Conv { .. }));
    let mut body = 1 + usize::from(folded) + 2 * usize::from(separate);
    let pool = matches!(kind(body), Some(Kind::MaxPool(_)));
    body += usize::from(pool);
    let end = list
        .iter()
        .position(|operation| matches!(operation.kind, Kind::GlobalAvgPool));
    let Some((blocks, end)) = end.and_then(|end| Some((list.get(body..end)?, end))) else {
        return Err(unlike(
            list.last(),
            "a DenseNet ends in a global average pooling",
        ));
    };

    let convs: Vec<usize> = (body..end)
        .filter(|&index| matches!(kind(index), Some(Kind::Conv { .. })))
        .collect();
    let Some(&conv1) = convs.first() else {
        return Err(unlike(
            list.get(body),
            "a dense block begins here, and there is no convolution",
        ));
    };
    // A bottleneck's output goes into its norm alone; new features are concatenated first.
    let bottleneck = list.get(conv1 + 1).is_some_and(|behind| {
        matches!(behind.kind, Kind::Norm { .. } | Kind::Relu)
            && *behind.inputs == [Source::Operation(conv1)]
    });
    let of_conv = |index: usize| match convs.get(index).and_then(|&conv| list.get(conv)) {
        Some(operation) => channels(operation),
        None => Err(unlike(list.get(end), "a dense layer lacks a convolution")),
    };
    let (growth_rate, bn_size) = match bottleneck {
        false => (of_conv(0)?[0], 0),
        true => {
            let (wide, growth_rate) = (of_conv(0)?[0], of_conv(1)?[0]);
            if wide % growth_rate != 0 {
                let what =
                    format!("its {wide} channels are no multiple of the growth rate {growth_rate}");
                return Err(unlike(list.get(conv1), &what));
            }
            (growth_rate, wide / growth_rate)
        }
    };
    let per_layer = 1 + usize::from(bottleneck);
    let (block_config, transitions) = blocks_of(blocks, per_layer)?;
    let (bn_eps, bn_momentum) = constants(list);
    let classifier = list.iter().find_map(|operation| match &operation.kind {
        Kind::Linear { weight, .. } => weight.dims(),
        _ => None,
    });
    let num_classes = classifier.and_then(|dims| usize::try_from(*dims.first()?).ok());
    Ok(DenseNetConfig {
        growth_rate,
        block_config,
        num_init_features,
        bn_size,
        compression: compression_of(&transitions),
        drop_rate: 0.0,
        num_classes: num_classes.unwrap_or(0),
        in_channels,
        spatial_dims: dims_of(first) - 2,
        stem: Stem {
            kernel: window.kernel,
            stride: window.stride,
            norm: folded || separate,
            pool,
        },
        final_norm: list
            .get(end)
            .is_some_and(|pooling| behind_relu(list, pooling)),
        concat_order: concat_order(list),
        bn_eps,
        bn_momentum,
    })
}

/// The first two sizes of a convolution's weight: channels out, channels in.
fn channels(operation: &Operation<'_>) -> Result<[usize; 2], OnnxError> {
    let dims = match &operation.kind {
        Kind::Conv { weight, .. } => weight.dims().unwrap_or_default(),
        _ => Vec::new(),
    };
    let size = |index: usize| {
        usize::try_from(*dims.get(index)?)
            .ok()
            .filter(|&size| size > 0)
    };
    match (size(0), size(1), dims.len()) {
        (Some(c_out), Some(c_in), 4 | 5) => Ok([c_out, c_in]),
        _ => Err(unlike(
            Some(operation),
            "its weight is no stored tensor of 2-D or 3-D kernels",
        )),
    }
}

/// The rank of a convolution's weight; checked before.
fn dims_of(operation: &Operation<'_>) -> usize {
    match &operation.kind {
        Kind::Conv { weight, .. } => weight.dims().map_or(4, |dims| dims.len()),
        _ => 4,
    }
}

/// Dense layers of each block, and `[c_out, c_in]` of each transition.
fn blocks_of(
    body: &[Operation<'_>],
    per_layer: usize,
) -> Result<(Vec<usize>, Vec<[usize; 2]>), OnnxError> {
    let segments: Vec<_> = body
        .split(|operation| matches!(operation.kind, Kind::AvgPool(_)))
        .collect();
    let mut block_config = Vec::with_capacity(segments.len());
    let mut transitions = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        let convs: Vec<_> = segment
            .iter()
            .filter(|operation| matches!(operation.kind, Kind::Conv { .. }))
            .collect();
        let is_last = index + 1 == segments.len();
        // Before each average pooling stands the transition's convolution.
        let in_layers = convs.len().saturating_sub(usize::from(!is_last));
        if in_layers == 0 || in_layers % per_layer != 0 {
            let what = format!(
                "the dense block that begins here has {in_layers} convolutions, and each layer takes {per_layer}"
            );
            return Err(unlike(segment.first().or(body.last()), &what));
        }
        block_config.push(in_layers / per_layer);
        if let (false, Some(conv)) = (is_last, convs.last()) {
            let [c_out, c_in] = channels(conv)?;
            transitions.push([c_in, c_out]);
        }
    }
    Ok((block_config, transitions))
}

/// Whether an operation reads nothing but the output of a ReLU.
fn behind_relu(list: &[Operation<'_>], operation: &Operation<'_>) -> bool {
    match *operation.inputs {
        [Source::Operation(index)] => list
            .get(index)
            .is_some_and(|before| matches!(before.kind, Kind::Relu)),
        _ => false,
    }
}

/// Which of the first two channels that were joined came first.
fn concat_order(list: &[Operation<'_>]) -> ConcatOrder {
    let joined = list.iter().find_map(|operation| match *operation.inputs {
        [Source::Operation(first), Source::Operation(second), ..] => Some((first, second)),
        _ => None,
    });
    match joined {
        Some((first, second)) if first > second => ConcatOrder::NewOld,
        _ => ConcatOrder::OldNew,
    }
}

/// ε and PyTorch's momentum of the first norm.
fn constants(list: &[Operation<'_>]) -> (f64, f64) {
    let norm = list.iter().find_map(|operation| match operation.kind {
        Kind::Norm {
            epsilon, momentum, ..
        } => Some((epsilon, momentum)),
        _ => None,
    });
    let (epsilon, momentum) = norm.unwrap_or((1e-5, 0.9));
    // ONNX counts what the old statistics weigh; 0 and 1 are no weights of a batch.
    let newest = match 1.0 - decimal(momentum) {
        newest if newest > 0.0 && newest <= 1.0 => decimal(newest as f32),
        _ => 0.1,
    };
    (decimal(epsilon), newest)
}

/// The number that people mean by an f32: 1e-5, not 9.999999747378752e-6.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// Names the node at which the graph stops being like a DenseNet's.
fn unlike(operation: Option<&Operation<'_>>, what: &str) -> OnnxError {
    match operation {
        Some(operation) => refuse(operation.node, what),
        None => OnnxError::unsupported(
            format!("its graph ends early: {what}"),
            "export a whole DenseNet, from its input to its classifier",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_what_people_mean() {
        assert_eq!(decimal(1e-5), 1e-5);
        assert_eq!(decimal(1e-3), 1e-3);
        assert_eq!(decimal((1.0 - decimal(0.9)) as f32), 0.1);
    }
}
