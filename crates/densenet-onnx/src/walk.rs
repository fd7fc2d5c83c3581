//! Reading an [`Architecture`]'s flat list as a graph.

use densenet_spec::{Architecture, Op, StageKind};

/// Whether the layer at `index` opens a dense layer: it reads everything the block has so far, and the dense layer's
/// concatenation joins the new features with just that.
pub(crate) fn opens_dense_layer(architecture: &Architecture, index: usize) -> bool {
    let layers = architecture.layers();
    let Some(stage) = layers
        .get(index)
        .and_then(|layer| architecture.stages().get(layer.stage))
    else {
        return false;
    };
    let after_concat = || {
        let before = index.checked_sub(1).and_then(|before| layers.get(before));
        before.is_some_and(|layer| layer.op == Op::Concat)
    };
    matches!(stage.kind, StageKind::DenseBlock(_))
        && (index == stage.layers.start || after_concat())
}

/// The batch norm that can be folded into the convolution at `index`: the one that follows at once and whose input
/// nobody else reads.
pub(crate) fn norm_behind(architecture: &Architecture, index: usize) -> Option<usize> {
    let layers = architecture.layers();
    let next = index + 1;
    let pair = (&layers.get(index)?.op, &layers.get(next)?.op);
    let folds = matches!(pair, (Op::Conv(_), Op::BatchNorm));
    (folds && !opens_dense_layer(architecture, next)).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use densenet_spec::preset;

    fn folded(name: &str) -> (usize, usize) {
        let config = preset(name).unwrap().config(2).unwrap();
        let architecture = Architecture::new(&config).unwrap();
        let count = |test: &dyn Fn(usize) -> bool| {
            (0..architecture.layers().len())
                .filter(|&index| test(index))
                .count()
        };
        (
            count(&|index| opens_dense_layer(&architecture, index)),
            count(&|index| norm_behind(&architecture, index).is_some()),
        )
    }

    #[test]
    fn dense_layers_open_once_and_bottlenecks_fold() {
        // Every bottleneck's norm2, and norm0.
        assert_eq!(folded("densenet121"), (58, 59));
        // No bottleneck, no norm in the stem: the norm behind conv0 opens the first dense layer.
        assert_eq!(folded("densenet-40-12"), (36, 0));
    }
}
