//! The one loop over blocks and layers.

use crate::{
    Architecture, ConfigError, DenseBlock, DenseLayer, DenseNetConfig, Layer, Op, Parameter,
    ParameterKind, Stage, StageKind, Transition, Window, compression::kept,
};

/// Appends layers and their parameters while the channels grow.
pub(crate) struct Builder<'a> {
    config: &'a DenseNetConfig,
    layers: Vec<Layer>,
    parameters: Vec<Parameter>,
    stages: Vec<Stage>,
    /// Channels at the current point of the network.
    channels: usize,
}

impl<'a> Builder<'a> {
    pub(crate) fn build(config: &'a DenseNetConfig) -> Result<Architecture, ConfigError> {
        let mut b = Builder {
            config,
            layers: Vec::new(),
            parameters: Vec::new(),
            stages: Vec::new(),
            channels: config.in_channels,
        };
        b.stem();
        let (mut blocks, mut transitions) = (Vec::new(), Vec::new());
        for (index, &num_layers) in config.block_config.iter().enumerate() {
            blocks.push(b.dense_block(index, num_layers));
            if index + 1 < config.block_config.len() {
                transitions.push(b.transition(index)?);
            }
        }
        b.head();
        Ok(Architecture {
            config: config.clone(),
            layers: b.layers,
            parameters: b.parameters,
            stages: b.stages,
            blocks,
            transitions,
        })
    }

    fn stem(&mut self) {
        let stem = self.config.stem;
        let (start, c_in) = self.open_stage();
        self.conv(
            "features.conv0",
            stem.window(),
            self.config.num_init_features,
        );
        if stem.norm {
            self.norm("features.norm0");
            self.op("features.relu0", Op::Relu);
        }
        if stem.pool {
            let window = Window::cube(self.config.spatial_dims, 3, 2, 1);
            self.op("features.pool0", Op::MaxPool(window));
        }
        self.close_stage("stem".into(), StageKind::Stem, start, c_in);
    }

    fn dense_block(&mut self, index: usize, num_layers: usize) -> DenseBlock {
        let name = format!("features.denseblock{}", index + 1);
        let (start, c_in) = self.open_stage();
        let layers = (1..=num_layers)
            .map(|l| self.dense_layer(format!("{name}.denselayer{l}")))
            .collect();
        self.close_stage(
            format!("denseblock{}", index + 1),
            StageKind::DenseBlock(index),
            start,
            c_in,
        );
        DenseBlock {
            name,
            stage: self.stages.len() - 1,
            c_in,
            c_out: self.channels,
            layers,
        }
    }

    fn dense_layer(&mut self, name: String) -> DenseLayer {
        let config = self.config;
        let (c_in, bottleneck) = (self.channels, config.bottleneck());
        let three = Window::cube(config.spatial_dims, 3, 1, 1);
        self.norm(&format!("{name}.norm1"));
        self.op(&format!("{name}.relu1"), Op::Relu);
        if bottleneck > 0 {
            self.conv(&format!("{name}.conv1"), Window::POINT, bottleneck);
            self.norm(&format!("{name}.norm2"));
            self.op(&format!("{name}.relu2"), Op::Relu);
            self.conv(&format!("{name}.conv2"), three, config.growth_rate);
        } else {
            self.conv(&format!("{name}.conv1"), three, config.growth_rate);
        }
        if config.drop_rate > 0.0 {
            self.op(&format!("{name}.dropout"), Op::Dropout);
        }
        let c_out = c_in + config.growth_rate;
        self.push(format!("{name}.concat"), Op::Concat, c_out, Vec::new());
        DenseLayer {
            name,
            c_in,
            bottleneck,
            growth_rate: config.growth_rate,
        }
    }

    fn transition(&mut self, index: usize) -> Result<Transition, ConfigError> {
        let name = format!("features.transition{}", index + 1);
        let (start, c_in) = self.open_stage();
        let c_out = kept(self.config.compression, c_in);
        if c_out == 0 {
            return Err(ConfigError::new(
                "compression",
                self.config.compression,
                format!(
                    "transition{} would keep none of its {c_in} channels; the smallest value that works is {}",
                    index + 1,
                    1.0 / c_in as f64
                ),
            ));
        }
        self.norm(&format!("{name}.norm"));
        self.op(&format!("{name}.relu"), Op::Relu);
        self.conv(&format!("{name}.conv"), Window::POINT, c_out);
        let window = Window::cube(self.config.spatial_dims, 2, 2, 0);
        self.op(&format!("{name}.pool"), Op::AvgPool(window));
        self.close_stage(
            format!("transition{}", index + 1),
            StageKind::Transition(index),
            start,
            c_in,
        );
        Ok(Transition {
            name,
            stage: self.stages.len() - 1,
            c_in,
            c_out,
        })
    }

    fn head(&mut self) {
        if self.config.final_norm {
            let (start, c_in) = self.open_stage();
            self.norm("features.norm5");
            self.op("features.relu5", Op::Relu);
            self.close_stage("norm5".into(), StageKind::FinalNorm, start, c_in);
        }
        let (start, c_in) = self.open_stage();
        self.op("avgpool", Op::GlobalAvgPool);
        let classes = self.config.num_classes;
        self.push(
            "classifier".into(),
            Op::Linear,
            classes,
            vec![
                ("weight", vec![classes, c_in], ParameterKind::LinearWeight),
                ("bias", vec![classes], ParameterKind::LinearBias),
            ],
        );
        self.close_stage("classifier".into(), StageKind::Classifier, start, c_in);
    }

    fn open_stage(&self) -> (usize, usize) {
        (self.layers.len(), self.channels)
    }

    fn close_stage(&mut self, name: String, kind: StageKind, start: usize, c_in: usize) {
        self.stages.push(Stage {
            name,
            kind,
            layers: start..self.layers.len(),
            c_in,
            c_out: self.channels,
        });
    }

    fn conv(&mut self, name: &str, window: Window, c_out: usize) {
        let spatial = &window.kernel[3 - self.config.spatial_dims..];
        let shape = [&[c_out, self.channels], spatial].concat();
        self.push(
            name.into(),
            Op::Conv(window),
            c_out,
            vec![("weight", shape, ParameterKind::ConvWeight)],
        );
    }

    fn norm(&mut self, name: &str) {
        let c = vec![self.channels];
        let tensors = vec![
            ("weight", c.clone(), ParameterKind::NormWeight),
            ("bias", c.clone(), ParameterKind::NormBias),
            ("running_mean", c.clone(), ParameterKind::RunningMean),
            ("running_var", c, ParameterKind::RunningVar),
        ];
        self.push(name.into(), Op::BatchNorm, self.channels, tensors);
    }

    fn op(&mut self, name: &str, op: Op) {
        self.push(name.into(), op, self.channels, Vec::new());
    }

    fn push(
        &mut self,
        name: String,
        op: Op,
        c_out: usize,
        tensors: Vec<(&str, Vec<usize>, ParameterKind)>,
    ) {
        let first = self.parameters.len();
        let layer = self.layers.len();
        self.parameters
            .extend(tensors.into_iter().map(|(suffix, shape, kind)| Parameter {
                name: format!("{name}.{suffix}"),
                shape,
                kind,
                layer,
            }));
        self.layers.push(Layer {
            name,
            op,
            c_in: self.channels,
            c_out,
            stage: self.stages.len(),
            parameters: first..self.parameters.len(),
        });
        self.channels = c_out;
    }
}
