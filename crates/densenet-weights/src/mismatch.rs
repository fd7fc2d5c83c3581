//! Strict loading: what the file lacks, has too much of, or has in another shape.

use std::fmt;

use densenet_spec::{Architecture, Parameter};

use crate::{StateDict, Tensor, error::printable};

/// The differences between the tensors a network needs and those a file holds.
///
/// `Display` names the first five of each kind; the lists hold all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// Needed, but not in the file.
    pub missing: Vec<String>,
    /// In the file, but not needed.
    pub surplus: Vec<String>,
    /// In both, with different shapes.
    pub misshaped: Vec<Misshaped>,
}

/// A tensor whose shape is not the one the network needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misshaped {
    /// The tensor's name.
    pub name: String,
    /// The shape the network needs.
    pub expected: Vec<usize>,
    /// The shape in the file.
    pub found: Vec<usize>,
}

/// How many names of each kind a message shows.
const SHOWN: usize = 5;

impl Mismatch {
    /// Compares a state dict with an architecture, name by name and shape by shape.
    pub fn between(architecture: &Architecture, state: &StateDict) -> Self {
        Self::unless(architecture, state, |tensor, parameter| {
            tensor.shape == parameter.shape && tensor.len() == parameter.len()
        })
    }

    /// [`Mismatch::between`] by shapes alone, where the elements are not in memory.
    pub(crate) fn between_shapes(architecture: &Architecture, state: &StateDict) -> Self {
        Self::unless(architecture, state, |tensor, parameter| {
            tensor.shape == parameter.shape
        })
    }

    fn unless(
        architecture: &Architecture,
        state: &StateDict,
        fits: impl Fn(&Tensor, &Parameter) -> bool,
    ) -> Self {
        let mut mismatch = Mismatch::default();
        let mut needed = std::collections::HashSet::new();
        for parameter in architecture.parameters() {
            needed.insert(parameter.name.as_str());
            match state.get(&parameter.name) {
                None => mismatch.missing.push(parameter.name.clone()),
                Some(tensor) if !fits(tensor, parameter) => {
                    mismatch.misshaped.push(Misshaped {
                        name: parameter.name.clone(),
                        expected: parameter.shape.clone(),
                        found: tensor.shape.clone(),
                    });
                }
                Some(_) => {}
            }
        }
        mismatch.surplus = state
            .names()
            .filter(|name| !needed.contains(name))
            .map(str::to_string)
            .collect();
        mismatch
    }

    /// Whether the file fits exactly.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.surplus.is_empty() && self.misshaped.is_empty()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the tensors do not make up the network: ")?;
        let mut parts = Vec::new();
        let names = |names: &[String]| shown(names.iter().map(|name| printable(name)), names.len());
        if !self.missing.is_empty() {
            parts.push(format!(
                "{} missing ({})",
                self.missing.len(),
                names(&self.missing)
            ));
        }
        if !self.surplus.is_empty() {
            parts.push(format!(
                "{} surplus ({})",
                self.surplus.len(),
                names(&self.surplus)
            ));
        }
        if !self.misshaped.is_empty() {
            let each = self.misshaped.iter().map(|m| {
                format!(
                    "{} is {:?}, needed {:?}",
                    printable(&m.name),
                    m.found,
                    m.expected
                )
            });
            parts.push(format!(
                "{} misshaped ({})",
                self.misshaped.len(),
                shown(each, self.misshaped.len())
            ));
        }
        write!(f, "{}", parts.join("; "))?;
        write!(
            f,
            " — check that the file is complete and the network is the one it was made for"
        )
    }
}

fn shown(items: impl Iterator<Item = String>, count: usize) -> String {
    let mut list = items.take(SHOWN).collect::<Vec<_>>().join(", ");
    if count > SHOWN {
        list.push_str(&format!(", … {} more", count - SHOWN));
    }
    list
}
