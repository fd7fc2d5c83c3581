//! The table of dialects.

use densenet_spec::ConcatOrder;

use super::{Dialect, Stems};

const TORCHVISION: Dialect = Dialect {
    name: "torchvision",
    about: "torchvision.models.densenet*, since 0.3; also the names inside our model files",
    stem: ["features.conv0", "features.norm0"],
    layer: "features.denseblock{b}.denselayer{l}",
    layer_ops: ["norm1", "conv1", "norm2", "conv2"],
    transition: "features.transition{b}",
    transition_ops: ["norm", "conv"],
    final_norm: Some("features.norm5"),
    classifier: "classifier",
    first_layer: 1,
    prefix: "",
    wrapper: None,
    counters: true,
    dims: &[2],
    in_channels: Some(3),
    blocks: None,
    any_compression: false,
    concat_order: ConcatOrder::OldNew,
    stems: Stems::ImageNet,
};

/// Before PyTorch 0.4 submodules could have dots in their names.
const LEGACY_OPS: [&str; 4] = ["norm.1", "conv.1", "norm.2", "conv.2"];
const LAYERS_OPS: [&str; 4] = [
    "layers.norm1",
    "layers.conv1",
    "layers.norm2",
    "layers.conv2",
];

/// Every dialect; of several that fit a file equally well, the first stands for it. So the row that is fixed to one input
/// channel comes before the one with the same names and any number.
pub static DIALECTS: &[Dialect] = &[
    TORCHVISION,
    Dialect {
        name: "torchvision-legacy",
        about: "torchvision's own downloads (densenet121-a639ec97.pth and others)",
        layer_ops: LEGACY_OPS,
        counters: false,
        ..TORCHVISION
    },
    Dialect {
        name: "monai",
        about: "monai.networks.nets.DenseNet, 2-D and 3-D",
        layer_ops: LAYERS_OPS,
        classifier: "class_layers.out",
        dims: &[2, 3],
        in_channels: None,
        ..TORCHVISION
    },
    Dialect {
        name: "timm",
        about: "timm's densenet* with the default stem (the same names as torchvision)",
        in_channels: None,
        ..TORCHVISION
    },
    Dialect {
        name: "tutorial-3d",
        about: "the tutorial's 3-D DenseNet (the same names as kenshohara, one input channel)",
        stem: ["features.conv1", "features.norm1"],
        dims: &[3],
        in_channels: Some(1),
        ..TORCHVISION
    },
    Dialect {
        name: "kenshohara",
        about: "kenshohara/3D-ResNets-PyTorch, current code",
        stem: ["features.conv1", "features.norm1"],
        dims: &[3],
        in_channels: None,
        stems: Stems::AnyDepth,
        ..TORCHVISION
    },
    Dialect {
        name: "kenshohara-2018",
        about: "kenshohara/3D-ResNets-PyTorch, the Kinetics checkpoints of 2018",
        layer_ops: LEGACY_OPS,
        prefix: "module.",
        wrapper: Some("state_dict"),
        counters: false,
        dims: &[3],
        in_channels: None,
        stems: Stems::DepthStride1,
        ..TORCHVISION
    },
    Dialect {
        name: "tutorial-2d",
        about: "the tutorial's 2-D DenseNet",
        layer_ops: LAYERS_OPS,
        ..TORCHVISION
    },
    Dialect {
        name: "tutorial-rewritten",
        about: "the tutorial's rewritten 2-D DenseNet with named stages",
        stem: ["Conv1.conv0", "Conv1.norm0"],
        layer: "Dense_Block_{b}.denselayer{l}",
        layer_ops: LAYERS_OPS,
        transition: "Transition_Layer_{b}",
        final_norm: Some("finale_bn"),
        blocks: Some(4),
        ..TORCHVISION
    },
    Dialect {
        name: "gpleiss",
        about: "gpleiss/efficient_densenet_pytorch, small inputs included",
        final_norm: Some("features.norm_final"),
        any_compression: true,
        stems: Stems::ImageNetOrSmall,
        ..TORCHVISION
    },
    Dialect {
        name: "tutorial-bottom",
        about: "the tutorial's short variant: newest features first, no final norm",
        stem: ["conv1", "bn1"],
        layer: "dense{b}.layers.{l}",
        layer_ops: ["bn1", "conv1", "bn2", "conv2"],
        transition: "trans{b}",
        transition_ops: ["bn", "conv"],
        final_norm: None,
        classifier: "fc",
        first_layer: 0,
        blocks: Some(4),
        concat_order: ConcatOrder::NewOld,
        ..TORCHVISION
    },
];
