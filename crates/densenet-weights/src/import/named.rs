//! Recognising a dialect and sorting tensors by what their names stand for.

use std::collections::{HashMap, HashSet};

use densenet_spec::{Architecture, DenseNetConfig};

use super::ImportOptions;
use crate::{
    Mismatch, StateDict, Tensor,
    dialect::{DIALECTS, Dialect, Part, Suffix},
    error::{Problem, WeightsError, printable},
};

/// Prefixes that PyTorch's wrappers leave in front of every name.
const WRAPPERS: &[(&str, &str)] = &[("module.", "DataParallel"), ("_orig_mod.", "torch.compile")];

/// Takes off a wrapper's prefix where every name has it.
pub(super) fn unwrap_names(
    mut tensors: StateDict,
    mut counters: Vec<(String, i64)>,
    notes: &mut Vec<String>,
) -> (StateDict, Vec<(String, i64)>) {
    for (prefix, program) in WRAPPERS {
        if !tensors.is_empty() && tensors.names().all(|name| name.starts_with(prefix)) {
            let strip = |name: String| {
                name.strip_prefix(prefix)
                    .map(str::to_string)
                    .unwrap_or(name)
            };
            tensors = tensors
                .into_iter()
                .map(|(name, tensor)| (strip(name), tensor))
                .collect();
            counters = counters
                .into_iter()
                .map(|(name, count)| (strip(name), count))
                .collect();
            notes.push(format!("the prefix `{prefix}` of {program} was taken off"));
        }
    }
    (tensors, counters)
}

/// The dialect that explains the names best.
pub(super) fn recognise(tensors: &StateDict) -> Result<&'static Dialect, WeightsError> {
    let understood = |dialect: &Dialect| {
        tensors
            .names()
            .filter(|name| dialect.parse(name).is_some())
            .count()
    };
    let counts: Vec<usize> = DIALECTS.iter().map(understood).collect();
    let most = counts.iter().copied().max().unwrap_or(0);
    if most * 2 < tensors.len().max(1) {
        let first: Vec<_> = tensors.names().take(3).map(printable).collect();
        let names: Vec<_> = DIALECTS.iter().map(|d| d.name).collect();
        return Err(Problem::Unrecognised(format!(
            "its {} tensors ({}, …) are named as in none of the known dialects — known are {}",
            tensors.len(),
            first.join(", "),
            names.join(", ")
        ))
        .into());
    }
    let candidates = || {
        DIALECTS
            .iter()
            .zip(&counts)
            .filter(|(_, count)| **count == most)
            .map(|(d, _)| d)
    };
    let stem = |dialect: &Dialect| {
        let name = dialect.format(Part::StemConv, Suffix::Weight)?;
        let shape = &tensors.get(&name)?.shape;
        Some((shape.len().checked_sub(2)?, *shape.get(1)?))
    };
    let suits = |dialect: &&Dialect| {
        stem(dialect).is_some_and(|(dims, channels)| dialect.suits(dims, channels))
    };
    candidates()
        .find(suits)
        .or_else(|| candidates().next())
        .ok_or_else(|| {
            Problem::Unrecognised("it holds no tensors — check the file".to_string()).into()
        })
}

/// Tensors sorted by what their names stand for in one dialect.
pub(super) struct Named {
    dialect: &'static Dialect,
    known: HashMap<(Part, Suffix), Tensor>,
    counters: Vec<(Part, i64)>,
    strangers: Vec<String>,
}

impl Named {
    pub(super) fn new(
        dialect: &'static Dialect,
        tensors: StateDict,
        counters: Vec<(String, i64)>,
    ) -> Self {
        let mut named = Named {
            dialect,
            known: HashMap::new(),
            counters: Vec::new(),
            strangers: Vec::new(),
        };
        for (name, tensor) in tensors {
            match dialect.parse(&name) {
                // A counter's name on floating-point numbers is no counter.
                Some((_, Suffix::Counter)) | None => named.strangers.push(name),
                Some(key) => {
                    // Names are unique and parsing is one-to-one, so nothing is replaced.
                    named.known.insert(key, tensor);
                }
            }
        }
        for (name, count) in counters {
            match dialect.parse(&name) {
                Some((part, Suffix::Counter)) => named.counters.push((part, count)),
                _ => named.strangers.push(name),
            }
        }
        named
    }

    pub(super) fn shapes(&self) -> HashMap<(Part, Suffix), &[usize]> {
        self.known
            .iter()
            .map(|(key, tensor)| (*key, tensor.shape.as_slice()))
            .collect()
    }

    /// An inference error, with the dialect and the names it did not know.
    pub(super) fn explain(&self, error: WeightsError) -> WeightsError {
        let Problem::Unrecognised(what) = &error.problem else {
            return error;
        };
        let strangers = match self.strangers.first() {
            Some(name) => format!(
                "; {} names such as `{}` are unknown to it",
                self.strangers.len(),
                printable(name)
            ),
            None => String::new(),
        };
        Problem::Unrecognised(format!("read as {}: {what}{strangers}", self.dialect.name)).into()
    }

    pub(super) fn remarks(&self, config: &DenseNetConfig, options: &ImportOptions) -> Vec<String> {
        let mut remarks = Vec::new();
        if !self.dialect.suits(config.spatial_dims, config.in_channels) {
            remarks.push(format!(
                "the names are those of {}, whose class is not {}-D with {} input channels",
                self.dialect.name, config.spatial_dims, config.in_channels
            ));
        }
        if options.config.stem.is_none() {
            remarks.extend(self.dialect.assumption(config));
        }
        if self.dialect.is_newest_first() && options.config.concat_order.is_none() {
            remarks.push(format!(
                "features are concatenated newest first, as {} does",
                self.dialect.name
            ));
        }
        remarks
    }

    /// The tensors in the architecture's order under torchvision's names, if they are exactly those it needs.
    pub(super) fn into_state(
        mut self,
        architecture: &Architecture,
        notes: &mut Vec<String>,
    ) -> Result<(StateDict, u64), WeightsError> {
        let canonical = &DIALECTS[0];
        let mut state = StateDict::new();
        let mut norms = HashSet::new();
        for parameter in architecture.parameters() {
            if let Some(key) = canonical.parse(&parameter.name)
                && let Some(tensor) = self.known.remove(&key)
            {
                norms.insert(key.0);
                state.insert(parameter.name.clone(), tensor);
            }
        }
        let mut mismatch = Mismatch::between(architecture, &state);
        // Messages speak the file's language.
        let theirs = |name: &str| {
            let (part, suffix) = canonical.parse(name)?;
            self.dialect.format(part, suffix)
        };
        for name in &mut mismatch.missing {
            if let Some(theirs) = theirs(name) {
                *name = theirs;
            }
        }
        for misshaped in &mut mismatch.misshaped {
            if let Some(theirs) = theirs(&misshaped.name) {
                misshaped.name = theirs;
            }
        }
        let mut left: Vec<_> = self.known.keys().copied().collect();
        left.extend(
            self.counters
                .iter()
                .filter(|(part, _)| !norms.contains(part))
                .map(|(part, _)| (*part, Suffix::Counter)),
        );
        left.sort_unstable();
        mismatch.surplus.append(&mut self.strangers);
        mismatch.surplus.extend(
            left.into_iter()
                .filter_map(|(part, suffix)| self.dialect.format(part, suffix)),
        );
        if !mismatch.is_empty() {
            return Err(Problem::Mismatch(Box::new(mismatch)).into());
        }
        let counts = || {
            self.counters
                .iter()
                .map(|(_, count)| u64::try_from(*count).unwrap_or(0))
        };
        let steps = counts().max().unwrap_or(0);
        if counts().any(|count| count != steps) {
            notes.push(format!(
                "step counters (num_batches_tracked) differ; the largest, {steps}, stands for all"
            ));
        }
        Ok((state, steps))
    }
}
