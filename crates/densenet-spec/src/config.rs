//! Which network is meant.

use crate::{ConcatOrder, ConfigError, Window};

/// Everything that distinguishes one DenseNet from another.
///
/// Field names are the paper's and torchvision's. [`crate::preset`] gives the published ones.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseNetConfig {
    /// Channels each dense layer adds (the paper's k).
    pub growth_rate: usize,
    /// Dense layers in each block; any number of blocks.
    pub block_config: Vec<usize>,
    /// Channels the stem produces.
    pub num_init_features: usize,
    /// Bottleneck width in multiples of `growth_rate`; 0 leaves the bottleneck out (the paper's plain DenseNet).
    pub bn_size: usize,
    /// Share of the channels a transition keeps (the paper's θ), in (0, 1]; 1 keeps all.
    pub compression: f64,
    /// Probability that dropout zeroes an element of a layer's new features while training, in [0, 1).
    pub drop_rate: f64,
    /// Classes the classifier tells apart.
    pub num_classes: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// 2 for images, 3 for volumes.
    pub spatial_dims: usize,
    /// The layers before the first dense block.
    pub stem: Stem,
    /// Whether batch norm and ReLU stand between the last block and the global average pooling.
    pub final_norm: bool,
    /// Order in which new features join the old ones.
    pub concat_order: ConcatOrder,
    /// Added to the variance before the square root in every batch norm.
    pub bn_eps: f64,
    /// Weight of the newest batch in the running statistics (PyTorch's convention).
    pub bn_momentum: f64,
}

/// The layers before the first dense block: a convolution, then if asked for norm + ReLU and a 3/2 max-pool.
///
/// The convolution is padded by half its kernel along every axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stem {
    /// Kernel along `[depth, height, width]`; depth is 1 in 2-D.
    pub kernel: [usize; 3],
    /// Stride along each axis; depth is 1 in 2-D.
    pub stride: [usize; 3],
    /// Whether batch norm and ReLU follow the convolution.
    pub norm: bool,
    /// Whether a 3/2 max-pool ends the stem.
    pub pool: bool,
}

impl Stem {
    /// 7/2 convolution, norm, ReLU, 3/2 max-pool.
    pub fn imagenet(spatial_dims: usize) -> Self {
        let window = Window::cube(spatial_dims, 7, 2, 3);
        Stem {
            kernel: window.kernel,
            stride: window.stride,
            norm: true,
            pool: true,
        }
    }

    /// 3/1 convolution alone, as the paper uses on CIFAR's 32×32 images.
    pub fn small(spatial_dims: usize) -> Self {
        let window = Window::cube(spatial_dims, 3, 1, 1);
        Stem {
            kernel: window.kernel,
            stride: window.stride,
            norm: false,
            pool: false,
        }
    }

    /// The stem called `name` (`imagenet` or `small`).
    pub fn from_name(name: &str, spatial_dims: usize) -> Option<Self> {
        match name {
            "imagenet" => Some(Stem::imagenet(spatial_dims)),
            "small" => Some(Stem::small(spatial_dims)),
            _ => None,
        }
    }

    /// `imagenet` or `small` where the stem is exactly that one.
    pub fn name(&self, spatial_dims: usize) -> Option<&'static str> {
        ["imagenet", "small"]
            .into_iter()
            .find(|name| Stem::from_name(name, spatial_dims) == Some(*self))
    }

    /// The convolution's window.
    pub fn window(&self) -> Window {
        Window {
            kernel: self.kernel,
            stride: self.stride,
            padding: self.kernel.map(|k| k / 2),
        }
    }
}

impl DenseNetConfig {
    /// Channels of the bottleneck, or 0 where there is none.
    pub fn bottleneck(&self) -> usize {
        self.bn_size * self.growth_rate
    }

    /// Checks every field on its own; [`crate::Architecture::new`] does this first.
    ///
    /// # Errors
    /// The first field whose value cannot work, with the smallest that does.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (field, value) in [
            ("growth_rate", self.growth_rate),
            ("num_init_features", self.num_init_features),
            ("num_classes", self.num_classes),
            ("in_channels", self.in_channels),
        ] {
            within(field, value, 1, MAX_CHANNELS)?;
        }
        within("bn_size", self.bn_size, 0, 1024)?;
        if self.block_config.is_empty() || self.block_config.len() > MAX_BLOCKS {
            return Err(ConfigError::new(
                "block_config",
                list(&self.block_config),
                format!("a network has 1 to {MAX_BLOCKS} dense blocks"),
            ));
        }
        if self
            .block_config
            .iter()
            .any(|&n| !(1..=MAX_LAYERS).contains(&n))
        {
            return Err(ConfigError::new(
                "block_config",
                list(&self.block_config),
                format!("every dense block has 1 to {MAX_LAYERS} layers"),
            ));
        }
        let real = |field, value: f64, ok: bool, reason: &str| {
            if ok {
                Ok(())
            } else {
                Err(ConfigError::new(field, value, reason))
            }
        };
        let c = self.compression;
        real(
            "compression",
            c,
            c > 0.0 && c <= 1.0,
            "a transition keeps a share in (0, 1] of its channels; 1 keeps all",
        )?;
        let d = self.drop_rate;
        real(
            "drop_rate",
            d,
            (0.0..1.0).contains(&d),
            "a probability in [0, 1); 0 switches dropout off",
        )?;
        let e = self.bn_eps;
        real(
            "bn_eps",
            e,
            e > 0.0 && e <= 1.0,
            "a small number in (0, 1], usually 1e-5",
        )?;
        let m = self.bn_momentum;
        real(
            "bn_momentum",
            m,
            m > 0.0 && m <= 1.0,
            "a share in (0, 1], usually 0.1",
        )?;
        if self.spatial_dims != 2 && self.spatial_dims != 3 {
            return Err(ConfigError::new(
                "spatial_dims",
                self.spatial_dims,
                "2 for images, 3 for volumes",
            ));
        }
        self.validate_stem()
    }

    fn validate_stem(&self) -> Result<(), ConfigError> {
        for (field, sizes) in [
            ("stem.kernel", self.stem.kernel),
            ("stem.stride", self.stem.stride),
        ] {
            if sizes.iter().any(|s| !(1..=31).contains(s)) {
                return Err(ConfigError::new(
                    field,
                    list(&sizes),
                    "1 to 31 along every axis",
                ));
            }
            if self.spatial_dims == 2 && sizes[0] != 1 {
                return Err(ConfigError::new(
                    field,
                    list(&sizes),
                    "the depth axis is 1 in a 2-D network",
                ));
            }
        }
        Ok(())
    }
}

/// Generous bounds that keep every size computed from a configuration far from overflow.
const MAX_CHANNELS: usize = 1 << 20;
const MAX_BLOCKS: usize = 32;
const MAX_LAYERS: usize = 4096;

fn within(field: &'static str, value: usize, min: usize, max: usize) -> Result<(), ConfigError> {
    if value < min {
        return Err(ConfigError::new(
            field,
            value,
            format!("the smallest value that works is {min}"),
        ));
    }
    if value > max {
        return Err(ConfigError::new(
            field,
            value,
            format!("the largest value supported is {max}"),
        ));
    }
    Ok(())
}

/// `6,12,24,16`
pub(crate) fn list(sizes: &[usize]) -> String {
    sizes
        .iter()
        .map(|s| s.to_string())
        .collect::<Vec<_>>()
        .join(",")
}
