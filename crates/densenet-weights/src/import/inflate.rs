//! 2-D networks made 3-D.

use densenet_spec::{Architecture, DenseNetConfig, ParameterKind};

use super::config_option;
use crate::{
    Model,
    error::{Problem, WeightsError},
};

/// How a 2-D kernel is spread along the depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inflation {
    /// Repeated in every plane and divided by their number: a slice is seen as the mean of its neighbours.
    Mean,
    /// In the middle plane alone, zeros around it: every slice is seen for itself until training changes that.
    Center,
}

impl Inflation {
    /// The name on the command line: `mean` or `center`.
    pub fn name(self) -> &'static str {
        match self {
            Inflation::Mean => "mean",
            Inflation::Center => "center",
        }
    }

    /// The inflation called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        [Inflation::Mean, Inflation::Center]
            .into_iter()
            .find(|inflation| inflation.name() == name)
    }
}

impl Model {
    /// Makes a network for images one for volumes: every convolution becomes as deep as it is high, the stem's stride and
    /// the poolings act along the depth as they do along the height. Says what was done, one sentence each.
    ///
    /// On a volume whose slices are all the same image, no operation but the zero padding of the convolutions along the
    /// depth tells the 3-D network from the 2-D one. So a slice of any feature map equals the 2-D network's map,
    /// - with [`Inflation::Center`] everywhere: the middle plane never reads padding, and so the logits are the 2-D ones;
    /// - with [`Inflation::Mean`] where no padding was read on the way. The logits are means over all slices of the last map;
    ///   those near its two ends lower their magnitude.
    ///
    /// The preprocessing of images is dropped: volumes need steps of their own.
    ///
    /// # Errors
    /// `Problem::Usage` for a network that is 3-D already, and as [`Model::check`]. The model is then of no use.
    ///
    /// # Source
    /// Carreira, Zisserman: *Quo Vadis, Action Recognition?*, CVPR 2017, section 2.4 (repeated and divided); Girdhar et al.,
    /// *Detect-and-Track*, CVPR 2018, section 3.2 (centre).
    pub fn inflate(&mut self, inflation: Inflation) -> Result<Vec<String>, WeightsError> {
        self.check()?;
        if self.config.spatial_dims != 2 {
            return Err(Problem::Usage {
                option: "inflate",
                what: "the network is for volumes already".to_string(),
                cure: "leave it out".to_string(),
            }
            .into());
        }
        let mut stem = self.config.stem;
        stem.kernel[0] = stem.kernel[1].min(stem.kernel[2]);
        stem.stride[0] = stem.stride[1].min(stem.stride[2]);
        let config = DenseNetConfig {
            spatial_dims: 3,
            stem,
            ..self.config.clone()
        };
        config.validate().map_err(config_option)?;
        let architecture = Architecture::new(&config).map_err(config_option)?;
        for parameter in architecture.parameters() {
            if parameter.kind != ParameterKind::ConvWeight {
                continue;
            }
            // [c_out, c_in, kd, kh, kw] out of [c_out, c_in, kh, kw]
            let [_, _, depth, height, width] = parameter.shape[..] else {
                continue;
            };
            let Some(tensor) = self.state.get_mut(&parameter.name) else {
                continue;
            };
            let mut data = Vec::with_capacity(tensor.len() * depth);
            for plane in tensor.data.chunks_exact(height * width) {
                for z in 0..depth {
                    let factor = match inflation {
                        Inflation::Mean => 1.0 / depth as f64,
                        Inflation::Center => f64::from(u8::from(z == depth / 2)),
                    };
                    data.extend(plane.iter().map(|&w| (f64::from(w) * factor) as f32));
                }
            }
            tensor.shape = parameter.shape.clone();
            tensor.data = data;
        }
        self.config = config;
        let mut changes = vec![match inflation {
            Inflation::Mean => {
                "2-D kernels were repeated along the depth and divided by it (mean)".to_string()
            }
            Inflation::Center => {
                "2-D kernels were put into the middle plane of 3-D ones (center)".to_string()
            }
        }];
        if self.preprocessing.take().is_some() {
            changes.push("the preprocessing of images was left behind".to_string());
        }
        if let Some(serde_json::Value::Object(fields)) = &mut self.provenance {
            fields.insert("inflated".into(), inflation.name().into());
        }
        self.check()?;
        Ok(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InitMode, initialize};
    use densenet_spec::preset;

    fn model() -> Model {
        let mut config = preset("densenet121").unwrap().config(2).unwrap();
        config.block_config = vec![1, 1];
        let state = initialize(&Architecture::new(&config).unwrap(), 5, InitMode::FanIn);
        let preprocessing = Some(serde_json::json!({}));
        Model {
            preprocessing,
            ..Model::new(config, state).unwrap()
        }
    }

    #[test]
    fn kernels_are_repeated_or_centred() {
        for inflation in [Inflation::Mean, Inflation::Center] {
            let (flat, mut deep) = (model(), model());
            let notes = deep.inflate(inflation).unwrap();
            assert_eq!((notes.len(), &deep.preprocessing), (2, &None));
            assert_eq!(deep.config.stem, densenet_spec::Stem::imagenet(3));
            let name = "features.denseblock1.denselayer1.conv2.weight";
            let [old, new] = [&flat, &deep].map(|m| m.state.get(name).unwrap());
            assert_eq!(new.shape, [32, 128, 3, 3, 3]);
            for (from, to) in old.data.chunks_exact(9).zip(new.data.chunks_exact(27)) {
                for (i, w) in from.iter().enumerate() {
                    let planes = [to[i], to[9 + i], to[18 + i]];
                    match inflation {
                        Inflation::Mean => assert_eq!(planes, [w / 3.0; 3]),
                        Inflation::Center => assert_eq!(planes, [0.0, *w, 0.0]),
                    }
                }
            }
            let points = "features.denseblock1.denselayer1.conv1.weight";
            let [old, new] = [&flat, &deep].map(|m| m.state.get(points).unwrap());
            assert_eq!((&old.data, &new.shape[2..]), (&new.data, &[1, 1, 1][..]));
            let again = deep.inflate(inflation).unwrap_err();
            assert!(again.to_string().contains("for volumes already"), "{again}");
        }
    }

    #[test]
    fn names_come_back() {
        for inflation in [Inflation::Mean, Inflation::Center] {
            assert_eq!(Inflation::from_name(inflation.name()), Some(inflation));
        }
        assert_eq!(Inflation::from_name("sum"), None);
    }
}
