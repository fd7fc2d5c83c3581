//! The four methods and what they have to be told.

use std::str::FromStr;

use clap::ValueEnum;
use densenet::{
    Input,
    explain::{
        ExplainError, Gradients, Integration, Map, Occlusion, class_activation_map, grad_cam,
        integrated_gradients, occlusion,
    },
};
use densenet_data::Prepared;
use densenet_spec::StageKind;

use super::ExplainOptions;
use crate::{commands::panel::Member, failure::Failure, output};

/// How an answer is explained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Method {
    #[default]
    Cam,
    Gradcam,
    Occlusion,
    IntegratedGradients,
}

impl Method {
    pub fn name(self) -> &'static str {
        match self {
            Method::Cam => "cam",
            Method::Gradcam => "gradcam",
            Method::Occlusion => "occlusion",
            Method::IntegratedGradients => "integrated-gradients",
        }
    }
}

/// What stands for nothing, in the unit of the prepared input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Baseline {
    Value(f32),
    /// The smallest value of each channel.
    Min,
    /// The mean of each channel.
    Mean,
}

impl FromStr for Baseline {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "zero" => Ok(Baseline::Value(0.0)),
            "min" => Ok(Baseline::Min),
            "mean" => Ok(Baseline::Mean),
            _ => match text.parse::<f32>() {
                Ok(value) if value.is_finite() => Ok(Baseline::Value(value)),
                _ => Err("no baseline — give zero, min, mean or a number".to_string()),
            },
        }
    }
}

impl Baseline {
    /// A value for each channel.
    fn of(self, sample: &Prepared) -> Vec<f32> {
        let channel = |c: usize| {
            let values = sample.data.iter().skip(c).step_by(sample.channels.max(1));
            match self {
                Baseline::Value(value) => value,
                Baseline::Min => values.copied().fold(f32::INFINITY, f32::min),
                Baseline::Mean => {
                    let count = values.len().max(1) as f64;
                    (values.map(|&v| f64::from(v)).sum::<f64>() / count) as f32
                }
            }
        };
        (0..sample.channels).map(channel).collect()
    }
}

/// A method with everything it has to be told.
pub struct Plan {
    method: Method,
    layer: String,
    window: Option<[usize; 3]>,
    stride: Option<[usize; 3]>,
    baseline: Baseline,
    steps: usize,
}

impl Plan {
    /// Puts the options together.
    ///
    /// # Errors
    /// An unknown layer, sizes for another number of axes.
    pub fn new(options: &ExplainOptions, method: Method, member: &Member) -> Result<Self, Failure> {
        let architecture = member.predictor.architecture();
        let blocks = architecture.stages().iter();
        let blocks: Vec<_> = blocks
            .filter(|s| matches!(s.kind, StageKind::DenseBlock(_)))
            .collect();
        let usual = blocks.get(blocks.len().saturating_sub(2));
        let layer = match (&options.explain_layer, usual) {
            (Some(layer), _) => layer.clone(),
            (None, Some(stage)) => stage.name.clone(),
            (None, None) => "denseblock1".to_string(),
        };
        if method == Method::Gradcam {
            Gradients::new(&member.predictor, &member.state, Some(&layer)).map_err(|error| {
                match error {
                    ExplainError::Network(densenet::NetworkError::Config(error)) => {
                        Failure::usage(format_args!(
                            "--explain-layer {layer}: {}",
                            error.reason.replacen("; ", " — ", 1)
                        ))
                    }
                    error => Failure::new(error.exit_code(), error),
                }
            })?;
        }
        let dims = architecture.config().spatial_dims;
        let axes = |option: &str, size: &Option<crate::options::size::Size>| {
            let Some(size) = size else {
                return Ok(None);
            };
            let wrong = |what: String| Failure::usage(format_args!("--explain-{option}: {what}"));
            match size.axes(dims, 1).map_err(wrong)? {
                axes if axes.contains(&0) => {
                    Err(wrong("a side of 0 — give at least 1 pixel".to_string()))
                }
                axes => Ok(Some(axes)),
            }
        };
        Ok(Plan {
            method,
            layer,
            window: axes("window", &options.explain_window)?,
            stride: axes("stride", &options.explain_stride)?,
            baseline: options.explain_baseline.unwrap_or(Baseline::Value(0.0)),
            steps: options.explain_steps.unwrap_or(50),
        })
    }

    pub fn method(&self) -> Method {
        self.method
    }

    /// The layer that the method looks at, where it can be chosen.
    pub fn layer(&self) -> Option<&str> {
        (self.method == Method::Gradcam).then_some(&self.layer)
    }

    /// In words, for an input of this size.
    pub fn about(&self, spatial: [usize; 3]) -> String {
        match self.method {
            Method::Cam => "class activation map".to_string(),
            Method::Gradcam => format!("Grad-CAM at {}", self.layer),
            Method::Occlusion => {
                let boxes = self.boxes(spatial, Vec::new());
                let from = if spatial[0] == 1 { 1 } else { 0 };
                format!(
                    "occlusion, boxes of {}: fall of the probability",
                    output::shape(&boxes.window[from..])
                )
            }
            Method::IntegratedGradients => format!("integrated gradients, {} steps", self.steps),
        }
    }

    fn boxes(&self, spatial: [usize; 3], baseline: Vec<f32>) -> Occlusion {
        let mut options = Occlusion::for_size(spatial, baseline);
        if let Some(window) = self.window {
            options.window = window;
            options.stride = match spatial[0] {
                1 => window.map(|w| w.div_ceil(2)),
                _ => window,
            };
        }
        if let Some(stride) = self.stride {
            options.stride = stride;
        }
        if spatial[0] > 1 {
            // A volume takes as much as many images.
            options.batch = 2;
        }
        options
    }

    /// The map of a class over a prepared sample.
    ///
    /// # Errors
    /// As the method.
    pub fn map(
        &self,
        member: &Member,
        sample: &Prepared,
        class: usize,
    ) -> Result<Map, ExplainError> {
        let (predictor, state) = (&member.predictor, &member.state);
        let input = Input {
            data: &sample.data,
            batch: 1,
            spatial: sample.spatial,
        };
        match self.method {
            Method::Cam => class_activation_map(predictor, state, input, class),
            Method::Gradcam => grad_cam(predictor, state, input, (&self.layer, class)),
            Method::Occlusion => {
                let options = self.boxes(sample.spatial, self.baseline.of(sample));
                occlusion(predictor, input, class, &options)
            }
            Method::IntegratedGradients => {
                let options = Integration {
                    steps: self.steps,
                    batch: if sample.spatial[0] > 1 { 2 } else { 8 },
                    baseline: self.baseline.of(sample),
                };
                Ok(integrated_gradients(predictor, state, input, class, &options)?.map())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn baselines_are_values_of_the_sample() {
        let sample = Prepared {
            data: vec![1.0, -4.0, 3.0, 8.0],
            spatial: [1, 1, 2],
            channels: 2,
            space: None,
        };
        let of = |text: &str| text.parse::<Baseline>().unwrap().of(&sample);
        assert_eq!(of("zero"), [0.0, 0.0]);
        assert_eq!(of("-1.5"), [-1.5, -1.5]);
        assert_eq!(of("min"), [1.0, -4.0]);
        assert_eq!(of("mean"), [2.0, 2.0]);
        assert!("nan".parse::<Baseline>().unwrap_err().contains(" — "));
    }
}
