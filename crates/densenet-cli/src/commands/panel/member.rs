//! One model: its network, how its inputs are prepared, and what its classes are called.

use std::path::Path;

use densenet::{Predictor, weights::StateDict};
use densenet_data::Preprocessing;
use densenet_weights::Model;

use crate::{
    failure::{Failure, MODEL},
    options::model,
    output,
};

/// What classifying needs of a model file.
pub struct Member {
    pub predictor: Predictor,
    pub preprocessing: Preprocessing,
    pub classes: Vec<String>,
    /// Only where answers are explained.
    pub state: StateDict,
    /// For each class of the first member, the index of the same class here.
    pub order: Vec<usize>,
}

impl Member {
    /// Reads a model file.
    ///
    /// # Errors
    /// The model does not say how images are prepared, or prepares them for another kind of network.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let model = model::load(path)?;
        let preprocessing = preprocessing(&model, path)?;
        tell_calibration(&model, path);
        let predictor = Predictor::new(&model.config, &model.state)?;
        let classes = model.config.num_classes;
        let numbered = || (0..classes).map(|i| i.to_string()).collect();
        Ok(Member {
            predictor,
            preprocessing,
            classes: model.classes.unwrap_or_else(numbered),
            state: model.state,
            order: (0..classes).collect(),
        })
    }

    /// Whether it takes volumes rather than images.
    pub fn takes_volumes(&self) -> bool {
        self.preprocessing.volume.is_some()
    }

    /// Brings the classes into the order of another member's.
    ///
    /// # Errors
    /// They take different kinds of data, or tell different classes apart.
    pub fn align(&mut self, path: &Path, first: &Member, first_path: &Path) -> Result<(), Failure> {
        let refused = |what: String| {
            Err(Failure::new(
                MODEL,
                format_args!(
                    "{}: {what} — an ensemble needs models of the same classes and kind of data",
                    path.display()
                ),
            ))
        };
        let kind = |member: &Member| match member.takes_volumes() {
            true => "volumes",
            false => "images",
        };
        if self.takes_volumes() != first.takes_volumes() {
            return refused(format!(
                "is for {}, while {} is for {}",
                kind(self),
                first_path.display(),
                kind(first)
            ));
        }
        if self.classes.len() != first.classes.len() {
            return refused(format!(
                "tells {} classes apart, while {} tells {}",
                self.classes.len(),
                first_path.display(),
                first.classes.len()
            ));
        }
        let mut order = Vec::with_capacity(first.classes.len());
        for class in &first.classes {
            match self.classes.iter().position(|own| own == class) {
                Some(index) if !order.contains(&index) => order.push(index),
                _ => {
                    return refused(format!(
                        "does not have the class `{class}` of {}",
                        first_path.display()
                    ));
                }
            }
        }
        self.order = order;
        Ok(())
    }
}

/// Says on standard error that a model is calibrated, if it is.
pub fn tell_calibration(model: &Model, path: &Path) {
    let temperature = model
        .provenance
        .as_ref()
        .and_then(|p| p.get("calibration")?.get("temperature")?.as_f64());
    if let Some(temperature) = temperature {
        output::note(&format!(
            "note: {}: calibrated, temperature {temperature:.4}",
            path.display()
        ));
    }
}

/// How a model's inputs are prepared.
///
/// # Errors
/// The model does not say so, or prepares them for another kind of network.
pub fn preprocessing(model: &Model, path: &Path) -> Result<Preprocessing, Failure> {
    let place = path.display();
    let Some(preprocessing) = &model.preprocessing else {
        let inputs = match model.config.spatial_dims {
            3 => "volumes",
            _ => "images",
        };
        return Err(Failure::new(
            MODEL,
            format_args!(
                "{place}: does not say how {inputs} are prepared — import it with --preprocessing, or use `densenet infer`"
            ),
        ));
    };
    let preprocessing = Preprocessing::from_value(preprocessing)
        .map_err(|error| Failure::new(MODEL, format_args!("{place}: {error}")))?;
    let own_dims = if preprocessing.volume.is_some() { 3 } else { 2 };
    if model.config.spatial_dims != own_dims {
        return Err(Failure::new(
            MODEL,
            format_args!(
                "{place}: a {}-D network whose preprocessing is for {own_dims}-D data — import it again with --preprocessing, or use `densenet infer`",
                model.config.spatial_dims
            ),
        ));
    }
    Ok(preprocessing)
}
