//! Changes to a network's two ends, made only when asked for.

use densenet_spec::{Architecture, DenseNetConfig};

use super::{InputChange, NewHead, NewInput, config_option};
use crate::{
    Model,
    error::{Problem, WeightsError},
    initialize,
};

impl Model {
    /// Makes the first convolution read another number of channels, puts a fresh classifier in place of the old one; what
    /// was changed, one sentence each.
    ///
    /// Channels that were changed leave no preprocessing behind, a fresh classifier no names of classes.
    ///
    /// # Errors
    /// `Problem::Usage` for a change that cannot be made, and as [`Model::check`]. The model is then of no use.
    pub fn adapt(
        &mut self,
        input: Option<NewInput>,
        head: Option<NewHead>,
    ) -> Result<Vec<String>, WeightsError> {
        if input.is_none() && head.is_none() {
            return Ok(Vec::new());
        }
        self.check()?;
        let mut changes = Vec::new();
        if let Some(input) = input {
            changes.extend(change_input(self, input)?);
        }
        if let Some(head) = head {
            changes.push(replace_head(self, head)?);
        }
        self.check()?;
        Ok(changes)
    }
}

/// Makes the first convolution read another number of channels.
fn change_input(model: &mut Model, input: NewInput) -> Result<Option<String>, WeightsError> {
    const STEM: &str = "features.conv0.weight";
    let (old, new) = (model.config.in_channels, input.in_channels);
    if old == new {
        return Ok(None);
    }
    if input.change == InputChange::Sum && new != 1 {
        return Err(Problem::Usage {
            option: "in_channels",
            what: format!("the sum over channels makes 1 channel, not {new}"),
            cure: "choose `repeat` or `mean`".to_string(),
        }
        .into());
    }
    let config = DenseNetConfig {
        in_channels: new,
        ..model.config.clone()
    };
    config.validate().map_err(config_option)?;
    let Some(weight) = model.state.get_mut(STEM) else {
        return Ok(None);
    };
    // [c_out, c_in, kernel…]
    let kernel: usize = weight.shape[2..].iter().product();
    let mut data = Vec::with_capacity(weight.len() / old * new);
    for filter in weight.data.chunks_exact(old * kernel) {
        let sum = |k: usize| {
            filter
                .iter()
                .skip(k)
                .step_by(kernel)
                .map(|&w| f64::from(w))
                .sum::<f64>()
        };
        for channel in 0..new {
            match input.change {
                InputChange::Sum => data.extend((0..kernel).map(|k| sum(k) as f32)),
                InputChange::Mean => data.extend((0..kernel).map(|k| (sum(k) / old as f64) as f32)),
                InputChange::Repeat => {
                    let scale = old as f32 / new as f32;
                    let start = channel % old * kernel;
                    data.extend(filter[start..start + kernel].iter().map(|w| w * scale));
                }
            }
        }
    }
    weight.shape[1] = new;
    weight.data = data;
    model.config = config;
    // Means and deviations of the old channels no longer apply.
    model.preprocessing = None;
    Ok(Some(format!(
        "the first convolution was changed from {old} to {new} input channels ({})",
        input.change.name()
    )))
}

/// Puts a fresh classifier in place of the old one.
fn replace_head(model: &mut Model, head: NewHead) -> Result<String, WeightsError> {
    let old = model.config.num_classes;
    let config = DenseNetConfig {
        num_classes: head.num_classes,
        ..model.config.clone()
    };
    config.validate().map_err(config_option)?;
    let architecture = Architecture::new(&config).map_err(config_option)?;
    for parameter in architecture.parameters() {
        if parameter.name.starts_with("classifier.") {
            let fresh = initialize::parameter(parameter, head.seed, initialize::InitMode::FanIn);
            model.state.insert(parameter.name.clone(), fresh);
        }
    }
    model.config = config;
    model.classes = None;
    Ok(format!(
        "the classifier for {old} classes was replaced by a fresh one for {}",
        head.num_classes
    ))
}
