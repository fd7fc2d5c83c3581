//! Which network it is, from the names and shapes of its tensors.

use std::collections::HashMap;

use densenet_spec::{ConcatOrder, DenseNetConfig, compression_of};

use super::{DIALECTS, Dialect, Part, Suffix};
use crate::error::{Problem, WeightsError};

/// The configuration of a network whose tensors have these shapes.
///
/// What shapes cannot tell (stride and pooling of the stem, order of concatenation, eps) is the dialect's default.
/// Gaps and contradictions are left to the strict comparison that follows.
///
/// # Errors
/// `Problem::Unrecognised` where a tensor is missing without which nothing can be inferred.
pub(crate) fn infer(
    dialect: &Dialect,
    shapes: &HashMap<(Part, Suffix), &[usize]>,
) -> Result<DenseNetConfig, WeightsError> {
    let need = |part, what: &str| {
        shapes.get(&(part, Suffix::Weight)).copied().ok_or_else(|| {
            let name = dialect.format(part, Suffix::Weight).unwrap_or_default();
            unrecognised(format!("{what} (`{name}`) is missing"))
        })
    };
    let stem = need(Part::StemConv, "the first convolution")?;
    let (spatial_dims, kernel) = match *stem {
        [_, _, height, width] => (2, [1, height, width]),
        [_, _, depth, height, width] => (3, [depth, height, width]),
        _ => {
            return Err(unrecognised(format!(
                "the first convolution has the shape {stem:?}"
            )));
        }
    };
    let (num_init_features, in_channels) = (stem[0], stem[1]);

    let mut block_config: Vec<usize> = Vec::new();
    for (part, _) in shapes.keys() {
        if let Part::Layer { block, layer, .. } = *part {
            if block > MAX_BLOCKS {
                return Err(unrecognised(format!(
                    "there is a dense block number {block}"
                )));
            }
            if block_config.len() < block {
                block_config.resize(block, 0);
            }
            block_config[block - 1] = block_config[block - 1].max(layer);
        }
    }
    // Spelling out a network costs memory; one that the file cannot possibly hold is not spelled out.
    let layers: usize = block_config.iter().sum();
    if layers > shapes.len() {
        return Err(unrecognised(format!(
            "its {} tensors cannot be those of {layers} dense layers",
            shapes.len()
        )));
    }
    let first = |op| Part::Layer {
        block: 1,
        layer: 1,
        op,
    };
    let conv1 = need(first(1), "the first dense layer's conv1")?;
    let has_conv2 = shapes
        .keys()
        .any(|(part, _)| matches!(part, Part::Layer { op: 3, .. }));
    let (growth_rate, bn_size) = if has_conv2 {
        let conv2 = need(first(3), "the first dense layer's conv2")?;
        let (growth_rate, bottleneck) = (leading(conv2)?, leading(conv1)?);
        if bottleneck % growth_rate != 0 {
            return Err(unrecognised(format!(
                "the bottleneck's {bottleneck} channels are no multiple of the growth rate {growth_rate}"
            )));
        }
        (growth_rate, bottleneck / growth_rate)
    } else {
        (leading(conv1)?, 0)
    };
    let classifier = need(Part::Classifier, "the classifier")?;
    let norm = shapes.contains_key(&(Part::StemNorm, Suffix::Weight));
    Ok(DenseNetConfig {
        growth_rate,
        num_init_features,
        bn_size,
        compression: compression_of(&transitions(&block_config, shapes)),
        drop_rate: 0.0,
        num_classes: leading(classifier)?,
        in_channels,
        spatial_dims,
        stem: dialect.stems.assumed(kernel, norm),
        final_norm: shapes.keys().any(|(part, _)| *part == Part::FinalNorm),
        concat_order: dialect.concat_order,
        bn_eps: 1e-5,
        bn_momentum: 0.1,
        block_config,
    })
}

/// More blocks than any configuration may have.
const MAX_BLOCKS: usize = 32;

fn unrecognised(what: String) -> WeightsError {
    Problem::Unrecognised(format!(
        "{what} — check that the file holds a whole DenseNet"
    ))
    .into()
}

/// The number of channels a weight produces.
fn leading(shape: &[usize]) -> Result<usize, WeightsError> {
    match shape.first() {
        Some(&channels) if channels > 0 => Ok(channels),
        _ => Err(unrecognised("a weight has no channels".to_string())),
    }
}

/// Channels into and out of every transition.
fn transitions(
    block_config: &[usize],
    shapes: &HashMap<(Part, Suffix), &[usize]>,
) -> Vec<[usize; 2]> {
    (1..block_config.len())
        .filter_map(|block| {
            let shape = shapes.get(&(Part::Transition { block, op: 1 }, Suffix::Weight))?;
            match **shape {
                [c_out, c_in, ..] => Some([c_in, c_out]),
                _ => None,
            }
        })
        .collect()
}

impl Dialect {
    /// Whether this dialect is the natural one for a network of these dimensions and input channels.
    pub(crate) fn suits(&self, spatial_dims: usize, in_channels: usize) -> bool {
        self.dims.contains(&spatial_dims)
            && (spatial_dims == 2 || self.in_channels.is_none_or(|c| c == in_channels))
    }

    /// What was assumed about the stem because neither a tensor nor the dialect's class fixes it.
    pub(crate) fn assumption(&self, config: &DenseNetConfig) -> Option<String> {
        let stem = &config.stem;
        let fixed = self.stems.is_fixed() && self.stems.allow(stem, config.spatial_dims);
        if fixed && !self.has_twin() {
            return None;
        }
        let stride = &stem.stride[3 - config.spatial_dims..];
        let pool = if stem.pool { "with" } else { "without" };
        Some(format!(
            "the stem's stride {stride:?} {pool} max-pool is the {} default; tensors do not show it",
            self.name
        ))
    }

    /// Whether another row has the same names and another stem.
    fn has_twin(&self) -> bool {
        DIALECTS.iter().any(|other| {
            other.stems != self.stems
                && (other.stem, other.layer, other.layer_ops)
                    == (self.stem, self.layer, self.layer_ops)
                && (other.final_norm, other.classifier) == (self.final_norm, self.classifier)
                && other.dims.iter().any(|dims| self.dims.contains(dims))
        })
    }

    pub(crate) fn is_newest_first(&self) -> bool {
        self.concat_order == ConcatOrder::NewOld
    }
}
