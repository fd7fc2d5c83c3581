//! Where a single run takes its weights from: memory, or the model file itself.

use densenet_weights::{OpenModel, StateDict, Tensor, WeightsError};

/// Where a single run takes its weights from.
pub trait Weights: Send {
    /// The vectors: norms and the classifier's bias.
    fn vectors(&self) -> &StateDict;

    /// The tensor `name`, which will not be asked for again; none if the network has no such tensor.
    ///
    /// # Errors
    /// It cannot be read.
    fn take(&mut self, name: &str) -> Result<Option<Tensor>, WeightsError>;

    /// Everything.
    ///
    /// # Errors
    /// As [`Weights::take`].
    fn all(self) -> Result<StateDict, WeightsError>
    where
        Self: Sized;
}

impl Weights for StateDict {
    fn vectors(&self) -> &StateDict {
        self
    }

    fn take(&mut self, name: &str) -> Result<Option<Tensor>, WeightsError> {
        Ok(self.get_mut(name).map(|tensor| Tensor {
            shape: tensor.shape.clone(),
            data: std::mem::take(&mut tensor.data),
        }))
    }

    fn all(self) -> Result<StateDict, WeightsError> {
        Ok(self)
    }
}

impl Weights for OpenModel {
    fn vectors(&self) -> &StateDict {
        OpenModel::vectors(self)
    }

    fn take(&mut self, name: &str) -> Result<Option<Tensor>, WeightsError> {
        self.kernel(name)
    }

    fn all(self) -> Result<StateDict, WeightsError> {
        Ok(self.into_model()?.state)
    }
}
