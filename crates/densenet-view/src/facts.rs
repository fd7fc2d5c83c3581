//! What the architecture alone tells: shapes, costs, receptive fields.

use densenet_spec::{Architecture, Layer, Op, Stage, StageKind, Trace, Window};
use serde::Serialize;

use crate::weights::Statistics;

/// A part of the network.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct StageFacts {
    name: String,
    kind: &'static str,
    /// First layer and the one behind the last.
    layers: [usize; 2],
    c_in: usize,
    c_out: usize,
    /// `[(depth,) height, width]` that enter and leave.
    space_in: Vec<usize>,
    space_out: Vec<usize>,
    params: u64,
    macs: u64,
    bytes: u64,
    /// Index of the dense block, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    block: Option<usize>,
}

/// A dense block.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct BlockFacts {
    stage: usize,
    c_in: usize,
    c_out: usize,
    growth_rate: usize,
    bottleneck: usize,
    layers: Vec<DenseLayerFacts>,
    /// Mean absolute weight with which each layer, and last whatever follows the block, reads each source; the sources
    /// are the block's input and the layers before it. The paper's Fig. 5, by columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) heat: Option<Vec<Vec<f64>>>,
}

#[derive(Debug, Clone, Serialize)]
struct DenseLayerFacts {
    name: String,
    /// First operation and the one behind the last.
    layers: [usize; 2],
    c_in: usize,
}

/// An operation.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LayerFacts {
    name: String,
    op: &'static str,
    /// Kernel, stride and padding along the axes there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<[Vec<usize>; 3]>,
    stage: usize,
    c_in: usize,
    c_out: usize,
    space_in: Vec<usize>,
    space_out: Vec<usize>,
    params: u64,
    macs: u64,
    /// Bytes of the map it makes, in f32; 0 where it works in place.
    bytes: u64,
    /// Pixels of the input along each axis that one pixel of the output depends on; missing where that is all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<Vec<usize>>,
    /// First tensor and the one behind the last.
    tensors: [usize; 2],
}

/// A named tensor.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TensorFacts {
    pub(crate) name: String,
    shape: Vec<usize>,
    learned: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stats: Option<Statistics>,
}

impl LayerFacts {
    /// Whether the paper counts it: convolutions and the classifier.
    pub(crate) fn is_counted(&self) -> bool {
        matches!(self.op, "Conv" | "Linear")
    }
}

/// One entry for each operation, for one sample.
pub(crate) fn layers(architecture: &Architecture, trace: &Trace) -> Vec<LayerFacts> {
    let axes = 3 - architecture.config().spatial_dims;
    let mut field = Field::new();
    let both = architecture.layers().iter().zip(&trace.layers);
    both.map(|(layer, shape)| {
        field.pass(&layer.op);
        let pixels: u64 = shape.spatial.iter().map(|&s| s as u64).product();
        let learned = &architecture.parameters()[layer.parameters.clone()];
        LayerFacts {
            name: layer.name.clone(),
            op: layer.op.name(),
            window: layer
                .op
                .window()
                .map(|w| [w.kernel, w.stride, w.padding].map(|sizes| sizes[axes..].to_vec())),
            stage: layer.stage,
            c_in: layer.c_in,
            c_out: layer.c_out,
            space_in: shape.spatial_in[axes..].to_vec(),
            space_out: shape.spatial[axes..].to_vec(),
            params: learned
                .iter()
                .filter(|p| p.kind.is_learned())
                .map(|p| p.len() as u64)
                .sum(),
            macs: shape.macs,
            bytes: match makes_a_map(layer) {
                true => pixels.saturating_mul(4 * layer.c_out as u64),
                false => 0,
            },
            field: field.size().map(|sizes| sizes[axes..].to_vec()),
            tensors: [layer.parameters.start, layer.parameters.end],
        }
    })
    .collect()
}

/// Norms and ReLUs ride along with their neighbours, a concatenation is the block's own buffer, and dropout rests.
fn makes_a_map(layer: &Layer) -> bool {
    !matches!(
        layer.op,
        Op::BatchNorm | Op::Relu | Op::Concat | Op::Dropout
    )
}

/// Sums over the stages.
pub(crate) fn stages(architecture: &Architecture, layers: &[LayerFacts]) -> Vec<StageFacts> {
    let facts = |(index, stage): (usize, &Stage)| {
        let own = &layers[stage.layers.clone()];
        let sum =
            |count: fn(&LayerFacts) -> u64| own.iter().map(count).fold(0, u64::saturating_add);
        StageFacts {
            name: stage.name.clone(),
            kind: match stage.kind {
                StageKind::Stem => "stem",
                StageKind::DenseBlock(_) => "block",
                StageKind::Transition(_) => "transition",
                StageKind::FinalNorm => "norm",
                StageKind::Classifier => "classifier",
            },
            layers: [stage.layers.start, stage.layers.end],
            c_in: stage.c_in,
            c_out: stage.c_out,
            space_in: own.first().map(|l| l.space_in.clone()).unwrap_or_default(),
            space_out: layers[architecture.stage_output(index)].space_out.clone(),
            params: sum(|l| l.params),
            macs: sum(|l| l.macs),
            bytes: sum(|l| l.bytes),
            block: match stage.kind {
                StageKind::DenseBlock(block) => Some(block),
                _ => None,
            },
        }
    };
    architecture
        .stages()
        .iter()
        .enumerate()
        .map(facts)
        .collect()
}

/// The dense blocks with their layers.
pub(crate) fn blocks(architecture: &Architecture) -> Vec<BlockFacts> {
    let all = architecture.blocks().iter();
    all.map(|block| {
        let mut start = architecture.stages()[block.stage].layers.start;
        let layers = block.layers.iter().map(|layer| {
            let prefix = format!("{}.", layer.name);
            let own = architecture.layers()[start..].iter();
            let count = own.take_while(|l| l.name.starts_with(&prefix)).count();
            let facts = DenseLayerFacts {
                name: layer.name.clone(),
                layers: [start, start + count],
                c_in: layer.c_in,
            };
            start += count;
            facts
        });
        BlockFacts {
            stage: block.stage,
            c_in: block.c_in,
            c_out: block.c_out,
            growth_rate: architecture.config().growth_rate,
            bottleneck: architecture.config().bottleneck(),
            layers: layers.collect(),
            heat: None,
        }
    })
    .collect()
}

/// The named tensors, without statistics.
pub(crate) fn tensors(architecture: &Architecture) -> Vec<TensorFacts> {
    let all = architecture.parameters().iter();
    all.map(|parameter| TensorFacts {
        name: parameter.name.clone(),
        shape: parameter.shape.clone(),
        learned: parameter.kind.is_learned(),
        stats: None,
    })
    .collect()
}

/// How far an output pixel sees: `field += (kernel − 1)·step`, `step *= stride` along each axis.
struct Field {
    size: [usize; 3],
    step: [usize; 3],
    /// The global pooling sees everything.
    everything: bool,
}

impl Field {
    fn new() -> Self {
        Field {
            size: [1; 3],
            step: [1; 3],
            everything: false,
        }
    }

    fn pass(&mut self, op: &Op) {
        self.everything |= *op == Op::GlobalAvgPool;
        let Some(Window { kernel, stride, .. }) = op.window() else {
            return;
        };
        for axis in 0..3 {
            let wider = self.step[axis].saturating_mul(kernel[axis] - 1);
            self.size[axis] = self.size[axis].saturating_add(wider);
            self.step[axis] = self.step[axis].saturating_mul(stride[axis]);
        }
    }

    fn size(&self) -> Option<[usize; 3]> {
        (!self.everything).then_some(self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use densenet_spec::preset;

    fn architecture(name: &str, dims: usize) -> Architecture {
        Architecture::new(&preset(name).unwrap().config(dims).unwrap()).unwrap()
    }

    #[test]
    fn the_receptive_field_grows_as_windows_and_strides_say() {
        let architecture = architecture("densenet121", 2);
        let trace = architecture.trace([1, 224, 224]).unwrap();
        let layers = layers(&architecture, &trace);
        let field = |name: &str| {
            let layer = layers.iter().find(|l| l.name.ends_with(name)).unwrap();
            layer.field.clone()
        };
        assert_eq!(field("features.conv0"), Some(vec![7, 7]));
        // 7 + (3 − 1)·2
        assert_eq!(field("features.pool0"), Some(vec![11, 11]));
        // 11 + (3 − 1)·4
        assert_eq!(field("denselayer1.conv2"), Some(vec![19, 19]));
        // Six layers: 11 + 6·8; the transition's pooling adds one step of 4.
        assert_eq!(field("transition1.pool"), Some(vec![63, 63]));
        assert_eq!(field("avgpool"), None);
    }

    #[test]
    fn stages_add_up_to_the_network() {
        for dims in [2, 3] {
            let architecture = architecture("densenet121", dims);
            let side = if dims == 2 { [1, 224, 224] } else { [96; 3] };
            let trace = architecture.trace(side).unwrap();
            let layers = layers(&architecture, &trace);
            let stages = stages(&architecture, &layers);
            let params: u64 = stages.iter().map(|s| s.params).sum();
            assert_eq!(params, architecture.num_parameters() as u64);
            assert_eq!(stages.iter().map(|s| s.macs).sum::<u64>(), trace.macs());
            assert_eq!(stages[0].space_in.len(), dims);
            assert_eq!(layers.iter().filter(|l| l.is_counted()).count(), 121);
        }
    }

    #[test]
    fn a_blocks_layers_are_its_stages_operations() {
        for name in ["densenet121", "densenet-40-12"] {
            let architecture = architecture(name, 2);
            for block in blocks(&architecture) {
                let stage = &architecture.stages()[block.stage].layers;
                assert_eq!(block.layers[0].layers[0], stage.start);
                assert_eq!(block.layers.last().unwrap().layers[1], stage.end);
                for pair in block.layers.windows(2) {
                    assert_eq!(pair[0].layers[1], pair[1].layers[0]);
                    assert_eq!(pair[0].c_in + block.growth_rate, pair[1].c_in);
                }
            }
        }
    }
}
