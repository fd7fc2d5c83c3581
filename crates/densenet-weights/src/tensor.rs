//! A tensor and the ordered collection of named ones.

use std::collections::HashMap;

use crate::error::{Problem, WeightsError};

/// Numbers in row-major order, f32, with PyTorch's shape.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tensor {
    /// Sizes of the axes, outermost first; empty for a single number.
    pub shape: Vec<usize>,
    /// The elements in row-major order; as many as the product of `shape`.
    pub data: Vec<f32>,
}

impl Tensor {
    /// A tensor of these elements.
    ///
    /// # Errors
    /// `Problem::Usage` where `data` does not have as many elements as `shape` says.
    pub fn new(shape: Vec<usize>, data: Vec<f32>) -> Result<Self, WeightsError> {
        if element_count(&shape) != Some(data.len()) {
            return Err(Problem::Usage {
                option: "shape",
                what: format!("{shape:?} does not describe {} elements", data.len()),
                cure: "give as many elements as the product of the shape".to_string(),
            }
            .into());
        }
        Ok(Tensor { shape, data })
    }

    /// A tensor whose elements are all `value`.
    pub fn full(shape: &[usize], value: f32) -> Self {
        Tensor {
            shape: shape.to_vec(),
            data: vec![value; shape.iter().product()],
        }
    }

    /// Checks that every element is finite; `name` is for the message.
    pub(crate) fn check_finite(&self, name: &str) -> Result<(), WeightsError> {
        match self.data.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(index) => Err(Problem::NonFinite {
                tensor: crate::error::printable(name),
                index,
                value: self.data[index],
            }
            .into()),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }
}

/// The product of a shape read from a file, unless it overflows.
pub(crate) fn element_count(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size))
}

/// Tensors under their names, in the order they were inserted.
///
/// A network's state dict uses torchvision's paths and PyTorch's layouts (`OIHW`, `OIDHW`) and includes `running_mean`
/// and `running_var`; `num_batches_tracked` is one number in [`crate::Model`].
#[derive(Debug, Clone, Default)]
pub struct StateDict {
    entries: Vec<(String, Tensor)>,
    index: HashMap<String, usize>,
}

impl StateDict {
    /// No tensors.
    pub fn new() -> Self {
        StateDict::default()
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of elements of all tensors together.
    pub fn num_elements(&self) -> usize {
        self.entries.iter().map(|(_, tensor)| tensor.len()).sum()
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        let (_, tensor) = self.entries.get(*self.index.get(name)?)?;
        Some(tensor)
    }

    /// The tensor called `name`, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Tensor> {
        let (_, tensor) = self.entries.get_mut(*self.index.get(name)?)?;
        Some(tensor)
    }

    /// Whether there is a tensor called `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// Adds a tensor at the end, or replaces the one of the same name in its place; returns what was there before.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) -> Option<Tensor> {
        let name = name.into();
        if let Some(present) = self.get_mut(&name) {
            return Some(std::mem::replace(present, tensor));
        }
        self.index.insert(name.clone(), self.entries.len());
        self.entries.push((name, tensor));
        None
    }

    /// Names and tensors in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.entries
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Names and tensors in order, the tensors to be changed.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&str, &mut Tensor)> {
        self.entries
            .iter_mut()
            .map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Names in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }

    /// Refuses NaN and infinities: a network with one anywhere answers nothing but NaN.
    ///
    /// # Errors
    /// `Problem::NonFinite` with the first tensor and element.
    pub fn check_finite(&self) -> Result<(), WeightsError> {
        self.iter()
            .try_for_each(|(name, tensor)| tensor.check_finite(name))
    }
}

/// Equal where names, order, shapes and elements are.
impl PartialEq for StateDict {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl FromIterator<(String, Tensor)> for StateDict {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(items: I) -> Self {
        let mut state = StateDict::new();
        for (name, tensor) in items {
            state.insert(name, tensor);
        }
        state
    }
}

impl IntoIterator for StateDict {
    type Item = (String, Tensor);
    type IntoIter = std::vec::IntoIter<(String, Tensor)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insert_keeps_the_order_and_replaces_in_place() {
        let mut state = StateDict::new();
        for (name, value) in [("b", 1.0), ("a", 2.0), ("c", 3.0)] {
            assert_eq!(state.insert(name, Tensor::full(&[2], value)), None);
        }
        assert_eq!(
            state.insert("a", Tensor::full(&[1], 9.0)),
            Some(Tensor::full(&[2], 2.0))
        );
        assert_eq!(state.names().collect::<Vec<_>>(), ["b", "a", "c"]);
        assert_eq!(state.get("a"), Some(&Tensor::full(&[1], 9.0)));
        assert_eq!(state.num_elements(), 5);
        assert!(!state.contains("d"));
    }

    #[test]
    fn a_nan_is_named() {
        let mut state = StateDict::new();
        state.insert("fine", Tensor::full(&[2], 1.0));
        state.insert(
            "broken",
            Tensor::new(vec![3], vec![0.0, f32::NAN, 1.0]).unwrap(),
        );
        let error = state.check_finite().unwrap_err();
        assert!(
            error
                .to_string()
                .contains("tensor `broken` holds NaN at element 1"),
            "{error}"
        );
        assert_eq!(error.exit_code(), 4);
    }

    #[test]
    fn a_shape_that_does_not_fit_is_refused() {
        assert!(Tensor::new(vec![2, 3], vec![0.0; 5]).is_err());
        assert!(Tensor::new(vec![usize::MAX, 2], vec![]).is_err());
        assert_eq!(Tensor::new(vec![], vec![1.0]).unwrap().len(), 1);
    }
}
