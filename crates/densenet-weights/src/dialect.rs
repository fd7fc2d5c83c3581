//! The names under which different programs store the same network.
//!
//! | dialect | first convolution | dense layer | final norm | classifier |
//! |---|---|---|---|---|
//! | `torchvision` | `features.conv0` | `features.denseblock1.denselayer1.norm1` | `features.norm5` | `classifier` |
//! | `torchvision-legacy` | same | `….denselayer1.norm.1` | same | same |
//! | `monai` | same | `….denselayer1.layers.norm1` | same | `class_layers.out` |
//! | `timm` | same | as torchvision | same | `classifier` |
//! | `kenshohara` | `features.conv1` | as torchvision | same | same |
//! | `kenshohara-2018` | `module.features.conv0` | as torchvision-legacy | same | same |
//! | `tutorial-2d` | `features.conv0` | as MONAI | same | `classifier` |
//! | `tutorial-rewritten` | `Conv1.conv0` | `Dense_Block_1.denselayer1.layers.norm1` | `finale_bn` | `classifier` |
//! | `tutorial-3d` | `features.conv1` | as torchvision | `features.norm5` | `classifier` |
//! | `gpleiss` | `features.conv0` | as torchvision | `features.norm_final` | `classifier` |
//! | `tutorial-bottom` | `conv1` | `dense1.layers.0.bn1` | none | `fc` |
//!
//! # Dialects with equal names
//! - `torchvision` and `timm` (default stem) are told apart by nobody, and need not be: the networks are the same.
//! - `kenshohara` and `tutorial-3d` differ in the stride of the first convolution along depth (1 and 2 by default), which
//!   no tensor shows. One input channel means `tutorial-3d`, which is fixed to one; more mean `kenshohara`.
//! - `torchvision-legacy` and `kenshohara-2018` without its `module.` differ in dimensions: 2 and 3.
//!
//! # A trap
//! `features.conv1` is the first convolution in `kenshohara` and `tutorial-3d`, but the second one of timm's deep stem.
//! Where `features.conv0` is there too, it is the deep stem, which this crate refuses by name.

pub(crate) mod infer;
mod names;
mod table;

use densenet_spec::{ConcatOrder, closest};

use crate::error::{Problem, WeightsError};
pub(crate) use names::{Part, Suffix};
pub use table::DIALECTS;

/// One row of the table: how a program names the parts of a DenseNet, and what its class can be.
///
/// Names may hold `{b}`, the block's number from 1, and `{l}`, the layer's number from `first_layer`.
#[derive(Debug, Clone, PartialEq)]
pub struct Dialect {
    /// The name on the command line.
    pub name: &'static str,
    /// One line about where files of this kind come from.
    pub about: &'static str,
    /// First convolution and its norm.
    stem: [&'static str; 2],
    /// What stands before the operations of a dense layer.
    layer: &'static str,
    /// norm1, conv1, norm2, conv2.
    layer_ops: [&'static str; 4],
    /// What stands before the operations of a transition.
    transition: &'static str,
    /// norm, conv.
    transition_ops: [&'static str; 2],
    /// The norm after the last block; none where the network has none.
    final_norm: Option<&'static str>,
    /// The fully connected layer.
    classifier: &'static str,
    /// Number of a block's first layer.
    first_layer: usize,
    /// Stands before every name (as PyTorch's DataParallel leaves it).
    prefix: &'static str,
    /// The entry of a `.pth` file that holds the tensors.
    wrapper: Option<&'static str>,
    /// Whether the program's batch norms have `num_batches_tracked`.
    counters: bool,
    /// Dimensions the program's class has.
    dims: &'static [usize],
    /// Input channels, where the class fixes them.
    in_channels: Option<usize>,
    /// Dense blocks, where the class fixes them.
    blocks: Option<usize>,
    /// Whether the share of channels a transition keeps can be chosen.
    any_compression: bool,
    /// Order of concatenation.
    concat_order: ConcatOrder,
    /// Stems the class can have.
    stems: Stems,
}

/// Stems a dialect's class can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stems {
    /// 7/2 convolution, norm, 3/2 max-pool along every axis.
    ImageNet,
    /// That, or a 3/1 convolution alone.
    ImageNetOrSmall,
    /// 7/2 in the plane and stride 1 along depth.
    DepthStride1,
    /// 7/2 in the plane; kernel and stride along depth and the max-pool are options, by default stride 1 with pool.
    AnyDepth,
}

/// The dialect called `name`.
///
/// # Errors
/// `Problem::Usage` with all names, and the likely one where `name` looks like a slip.
pub fn dialect(name: &str) -> Result<&'static Dialect, WeightsError> {
    DIALECTS.iter().find(|d| d.name == name).ok_or_else(|| {
        let names = || DIALECTS.iter().map(|d| d.name);
        let cure = match closest(name, names()) {
            Some(likely) => format!("did you mean {likely}?"),
            None => format!("known are {}", names().collect::<Vec<_>>().join(", ")),
        };
        Problem::Usage {
            option: "dialect",
            what: format!("`{}` is no dialect", crate::error::printable(name)),
            cure,
        }
        .into()
    })
}

impl Dialect {
    /// What of `config` this dialect's class cannot be, if anything.
    pub(crate) fn objection(&self, config: &densenet_spec::DenseNetConfig) -> Option<String> {
        let dims = config.spatial_dims;
        if !self.dims.contains(&dims) {
            return Some(format!("the network is {dims}-D"));
        }
        if config.concat_order != self.concat_order {
            return Some(format!(
                "the network concatenates {}",
                config.concat_order.name()
            ));
        }
        if config.final_norm != self.final_norm.is_some() {
            let has = if config.final_norm { "a" } else { "no" };
            return Some(format!("the network has {has} final norm"));
        }
        if config.bn_size == 0 {
            return Some("the network has no bottlenecks".to_string());
        }
        if let Some(blocks) = self.blocks
            && blocks != config.block_config.len()
        {
            return Some(format!(
                "the network has {} blocks, not {blocks}",
                config.block_config.len()
            ));
        }
        (!self.stems.allow(&config.stem, dims)).then(|| "the network has another stem".to_string())
    }

    /// What stands before every name.
    pub(crate) fn prefix(&self) -> &'static str {
        self.prefix
    }

    /// The entry of a `.pth` file that holds the tensors, if they are wrapped.
    pub(crate) fn wrapper(&self) -> Option<&'static str> {
        self.wrapper
    }

    /// Whether `num_batches_tracked` is written.
    pub(crate) fn counters(&self) -> bool {
        self.counters
    }

    /// Options of `config` that a user of the dialect's class has to set, one sentence each.
    pub(crate) fn remarks(&self, config: &densenet_spec::DenseNetConfig) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some(channels) = self.in_channels
            && channels != config.in_channels
        {
            remarks.push(format!(
                "the {} class reads {channels} channels; replace its first convolution by one for {} before loading",
                self.name, config.in_channels
            ));
        }
        if config.compression != 0.5 && !self.any_compression {
            remarks.push(format!(
                "the {} class halves channels in transitions; this network keeps a share of {}",
                self.name, config.compression
            ));
        }
        if config.bn_eps != 1e-5 {
            remarks.push(format!(
                "set eps = {} in every batch norm after loading",
                config.bn_eps
            ));
        }
        remarks
    }
}

impl Stems {
    fn allow(self, stem: &densenet_spec::Stem, dims: usize) -> bool {
        use densenet_spec::Stem;
        let imagenet = Stem::imagenet(dims);
        match self {
            Stems::ImageNet => *stem == imagenet,
            Stems::ImageNetOrSmall => *stem == imagenet || *stem == Stem::small(dims),
            Stems::DepthStride1 => *stem == flat(imagenet),
            Stems::AnyDepth => {
                stem.norm && stem.kernel[1..] == [7, 7] && stem.stride[1..] == [2, 2]
            }
        }
    }

    /// Whether the kernel's size decides about stride and pooling.
    fn is_fixed(self) -> bool {
        self != Stems::AnyDepth
    }

    /// The stem a file with this kernel most likely has: what shapes cannot tell is the dialect's default.
    fn assumed(self, kernel: [usize; 3], norm: bool) -> densenet_spec::Stem {
        // Every ImageNet stem has a 7×7 kernel and halves twice; small kernels belong to small inputs.
        let large = kernel[1].max(kernel[2]) >= 5;
        let stride = |size: usize| if large && size > 1 { 2 } else { 1 };
        let stem = densenet_spec::Stem {
            kernel,
            stride: kernel.map(stride),
            norm,
            pool: large,
        };
        match self {
            Stems::ImageNet | Stems::ImageNetOrSmall => stem,
            Stems::DepthStride1 | Stems::AnyDepth => flat(stem),
        }
    }
}

/// The same stem with stride 1 along depth.
fn flat(mut stem: densenet_spec::Stem) -> densenet_spec::Stem {
    stem.stride[0] = 1;
    stem
}
