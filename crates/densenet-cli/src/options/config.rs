//! The options that change a preset: one for each field of [`DenseNetConfig`].

use std::path::Path;

use clap::{Args, ValueEnum};
use densenet_spec::{ConcatOrder, DenseNetConfig, Preset, Stem};
use densenet_weights::ConfigFile;

use super::{
    number::{real, whole},
    size::Size,
};
use crate::failure::Failure;

/// Changes to a preset. An option left out keeps the preset's value.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Network (changes to the preset)")]
pub struct ConfigOptions {
    /// 2 for images, 3 for volumes [default: 2]
    #[arg(long = "dims", alias = "spatial-dims", value_name = "2|3", value_parser = whole)]
    pub spatial_dims: Option<usize>,
    /// Channels of the input [default: 3 in 2-D, 1 in 3-D]
    #[arg(long, value_name = "N", value_parser = whole)]
    pub in_channels: Option<usize>,
    /// Classes to tell apart
    #[arg(long, value_name = "N", value_parser = whole)]
    pub num_classes: Option<usize>,
    /// Channels each dense layer adds (k)
    #[arg(long, value_name = "N", value_parser = whole)]
    pub growth_rate: Option<usize>,
    /// Dense layers in each block, like 6,12,24,16
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', value_parser = whole)]
    pub block_config: Option<Vec<usize>>,
    /// Channels the stem produces
    #[arg(long, value_name = "N", value_parser = whole)]
    pub num_init_features: Option<usize>,
    /// Bottleneck width in multiples of the growth rate; 0 for no bottleneck
    #[arg(long, value_name = "N", value_parser = whole)]
    pub bn_size: Option<usize>,
    /// Share of the channels a transition keeps (θ); 1 keeps all
    #[arg(long, value_name = "0..1", value_parser = real)]
    pub compression: Option<f64>,
    /// Dropout probability after each dense layer while training
    #[arg(long, value_name = "0..1", value_parser = real)]
    pub drop_rate: Option<f64>,
    /// Layers before the first block: imagenet (7/2, norm, max-pool) or small (3/1)
    #[arg(long, value_enum, value_name = "NAME", hide_possible_values = true)]
    pub stem: Option<StemName>,
    /// The stem convolution's kernel, like 7 or 3x7x7
    #[arg(long, value_name = "SIZE")]
    pub stem_kernel: Option<Size>,
    /// The stem convolution's stride, like 2 or 1x2x2
    #[arg(long, value_name = "SIZE")]
    pub stem_stride: Option<Size>,
    /// Whether norm and ReLU follow the stem's convolution
    #[arg(long, value_name = "true|false", hide_possible_values = true)]
    pub stem_norm: Option<bool>,
    /// Whether a 3/2 max-pool ends the stem
    #[arg(long, value_name = "true|false", hide_possible_values = true)]
    pub stem_pool: Option<bool>,
    /// Leaves out the norm and ReLU after the last block
    #[arg(long)]
    pub no_final_norm: bool,
    /// How new features join the old ones: old_new (usual) or new_old
    #[arg(long, value_enum, value_name = "ORDER", hide_possible_values = true)]
    pub concat_order: Option<OrderName>,
    /// Batch norm's ε
    #[arg(long, value_name = "X", value_parser = real)]
    pub bn_eps: Option<f64>,
    /// Weight of the newest batch in the running statistics
    #[arg(long, value_name = "0..1", value_parser = real)]
    pub bn_momentum: Option<f64>,
}

/// [`Stem::from_name`]'s names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StemName {
    Imagenet,
    Small,
}

/// [`ConcatOrder`]'s names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OrderName {
    #[value(name = "old_new")]
    OldNew,
    #[value(name = "new_old")]
    NewOld,
}

impl ConfigOptions {
    /// `preset` with these changes. Whether the result is a working network, the architecture says.
    ///
    /// # Errors
    /// `--dims` is neither 2 nor 3, or a stem size has the wrong number of axes.
    pub fn configure(&self, preset: &Preset) -> Result<DenseNetConfig, Failure> {
        let mut config = preset.config(self.spatial_dims.unwrap_or(2))?;
        self.apply(&mut config)?;
        Ok(config)
    }

    /// A model file says itself which network it is.
    ///
    /// # Errors
    /// Any of these options was given together with the model file `path`.
    pub fn refuse(&self, path: &Path) -> Result<(), Failure> {
        if *self == ConfigOptions::default() {
            return Ok(());
        }
        Err(Failure::usage(format_args!(
            "{}: a model file fixes its network — leave the network options out, or name a preset",
            path.display()
        )))
    }

    /// The fields that were given, laid over `base`, in the form of a configuration file.
    ///
    /// # Errors
    /// `--dims` is not the base's, or a stem size has the wrong number of axes.
    pub fn changes(&self, base: &DenseNetConfig) -> Result<ConfigFile, Failure> {
        if let Some(dims) = self.spatial_dims
            && dims != base.spatial_dims
        {
            return Err(Failure::usage(format_args!(
                "--dims {dims}: the weights are for a {}-D network — leave --dims out",
                base.spatial_dims
            )));
        }
        self.fields(base)
    }

    /// The fields that were given, in the form of a configuration file.
    ///
    /// A stem that is given in parts alone starts from the ImageNet stem.
    ///
    /// # Errors
    /// A stem size has the wrong number of axes.
    pub fn file(&self) -> Result<ConfigFile, Failure> {
        // Only the stem and the dimension of this base matter.
        let dims = self.spatial_dims.unwrap_or(2);
        let base = densenet_spec::preset("densenet121")?.config(dims)?;
        Ok(ConfigFile {
            spatial_dims: self.spatial_dims,
            ..self.fields(&base)?
        })
    }

    fn fields(&self, base: &DenseNetConfig) -> Result<ConfigFile, Failure> {
        let mut config = base.clone();
        self.apply(&mut config)?;
        let all = ConfigFile::from(&config);
        let stem = self.stem.is_some()
            || self.stem_kernel.is_some()
            || self.stem_stride.is_some()
            || self.stem_norm.is_some()
            || self.stem_pool.is_some();
        Ok(ConfigFile {
            growth_rate: self.growth_rate,
            block_config: self.block_config.clone(),
            num_init_features: self.num_init_features,
            bn_size: self.bn_size,
            compression: self.compression,
            drop_rate: self.drop_rate,
            num_classes: self.num_classes,
            in_channels: self.in_channels,
            spatial_dims: None,
            final_norm: self.no_final_norm.then_some(false),
            concat_order: self.concat_order.and(all.concat_order),
            bn_eps: self.bn_eps,
            bn_momentum: self.bn_momentum,
            stem: if stem { all.stem } else { None },
        })
    }

    /// Changes `config` in every field that was given but `spatial_dims`.
    ///
    /// # Errors
    /// A stem size has the wrong number of axes.
    pub fn apply(&self, config: &mut DenseNetConfig) -> Result<(), Failure> {
        set(&mut config.in_channels, &self.in_channels);
        set(&mut config.num_classes, &self.num_classes);
        set(&mut config.growth_rate, &self.growth_rate);
        set(&mut config.block_config, &self.block_config);
        set(&mut config.num_init_features, &self.num_init_features);
        set(&mut config.bn_size, &self.bn_size);
        set(&mut config.compression, &self.compression);
        set(&mut config.drop_rate, &self.drop_rate);
        set(&mut config.bn_eps, &self.bn_eps);
        set(&mut config.bn_momentum, &self.bn_momentum);
        let dims = config.spatial_dims;
        match self.stem {
            Some(StemName::Imagenet) => config.stem = Stem::imagenet(dims),
            Some(StemName::Small) => config.stem = Stem::small(dims),
            None => {}
        }
        let axes = |option: &str, size: &Size| {
            size.axes(dims, 1)
                .map_err(|what| Failure::usage(format_args!("{option}: {what}")))
        };
        if let Some(size) = &self.stem_kernel {
            config.stem.kernel = axes("--stem-kernel", size)?;
        }
        if let Some(size) = &self.stem_stride {
            config.stem.stride = axes("--stem-stride", size)?;
        }
        set(&mut config.stem.norm, &self.stem_norm);
        set(&mut config.stem.pool, &self.stem_pool);
        config.final_norm &= !self.no_final_norm;
        match self.concat_order {
            Some(OrderName::OldNew) => config.concat_order = ConcatOrder::OldNew,
            Some(OrderName::NewOld) => config.concat_order = ConcatOrder::NewOld,
            None => {}
        }
        Ok(())
    }
}

fn set<T: Clone>(field: &mut T, given: &Option<T>) {
    if let Some(value) = given {
        field.clone_from(value);
    }
}
