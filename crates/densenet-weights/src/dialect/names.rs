//! Between names and what they stand for.

use super::Dialect;

/// A module with parameters; blocks and layers count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Part {
    StemConv,
    StemNorm,
    /// Operation 0 to 3: norm1, conv1, norm2, conv2.
    Layer {
        block: usize,
        layer: usize,
        op: usize,
    },
    /// Operation 0 or 1: norm, conv.
    Transition {
        block: usize,
        op: usize,
    },
    FinalNorm,
    Classifier,
}

impl Part {
    fn is_norm(self) -> bool {
        match self {
            Part::StemNorm | Part::FinalNorm => true,
            Part::Layer { op, .. } | Part::Transition { op, .. } => op % 2 == 0,
            Part::StemConv | Part::Classifier => false,
        }
    }
}

/// The last component of a tensor's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Suffix {
    Weight,
    Bias,
    RunningMean,
    RunningVar,
    Counter,
}

const SUFFIXES: &[(Suffix, &str)] = &[
    (Suffix::Weight, "weight"),
    (Suffix::Bias, "bias"),
    (Suffix::RunningMean, "running_mean"),
    (Suffix::RunningVar, "running_var"),
    (Suffix::Counter, crate::raw::COUNTER),
];

impl Dialect {
    /// What a tensor's name, without [`Dialect::prefix`], stands for.
    pub(crate) fn parse(&self, name: &str) -> Option<(Part, Suffix)> {
        let (module, suffix) = name.rsplit_once('.')?;
        let suffix = SUFFIXES.iter().find(|row| row.1 == suffix)?.0;
        let part = self.parse_module(module)?;
        let fits = match suffix {
            Suffix::Weight => true,
            Suffix::Bias => part.is_norm() || part == Part::Classifier,
            Suffix::RunningMean | Suffix::RunningVar | Suffix::Counter => part.is_norm(),
        };
        fits.then_some((part, suffix))
    }

    fn parse_module(&self, module: &str) -> Option<Part> {
        if module == self.stem[0] {
            return Some(Part::StemConv);
        }
        if module == self.stem[1] {
            return Some(Part::StemNorm);
        }
        if Some(module) == self.final_norm {
            return Some(Part::FinalNorm);
        }
        if module == self.classifier {
            return Some(Part::Classifier);
        }
        for (op, last) in self.layer_ops.iter().enumerate() {
            if let Some(path) = without(module, last)
                && let Some((block, layer)) = numbers(self.layer, path)
            {
                let layer = (layer + 1).checked_sub(self.first_layer)?;
                return (block > 0 && layer > 0).then_some(Part::Layer { block, layer, op });
            }
        }
        for (op, last) in self.transition_ops.iter().enumerate() {
            if let Some(path) = without(module, last)
                && let Some((block, _)) = numbers(self.transition, path)
            {
                return (block > 0).then_some(Part::Transition { block, op });
            }
        }
        None
    }

    /// The name of a tensor, without [`Dialect::prefix`]; none where the dialect has no such part.
    pub(crate) fn format(&self, part: Part, suffix: Suffix) -> Option<String> {
        let module = match part {
            Part::StemConv => self.stem[0].to_string(),
            Part::StemNorm => self.stem[1].to_string(),
            Part::FinalNorm => self.final_norm?.to_string(),
            Part::Classifier => self.classifier.to_string(),
            Part::Layer { block, layer, op } => {
                let path = self
                    .layer
                    .replace("{b}", &block.to_string())
                    .replace("{l}", &(layer - 1 + self.first_layer).to_string());
                format!("{path}.{}", self.layer_ops.get(op)?)
            }
            Part::Transition { block, op } => {
                let path = self.transition.replace("{b}", &block.to_string());
                format!("{path}.{}", self.transition_ops.get(op)?)
            }
        };
        let suffix = SUFFIXES.iter().find(|row| row.0 == suffix)?.1;
        Some(format!("{module}.{suffix}"))
    }
}

/// `path` for `path.last`.
fn without<'a>(module: &'a str, last: &str) -> Option<&'a str> {
    module.strip_suffix(last)?.strip_suffix('.')
}

/// The numbers at `{b}` and `{l}` of a pattern; 0 where it has no `{l}`.
fn numbers(pattern: &str, text: &str) -> Option<(usize, usize)> {
    let (before, after) = pattern.split_once("{b}")?;
    let (block, rest) = number(text.strip_prefix(before)?)?;
    let Some((between, end)) = after.split_once("{l}") else {
        return (rest == after).then_some((block, 0));
    };
    let (layer, rest) = number(rest.strip_prefix(between)?)?;
    (rest == end).then_some((block, layer))
}

/// A number as programs write it: at most five digits, no leading zero.
fn number(text: &str) -> Option<(usize, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 || digits > 5 || (digits > 1 && text.starts_with('0')) {
        return None;
    }
    let (number, rest) = text.split_at(digits);
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::DIALECTS;

    #[test]
    fn every_name_leads_back_to_its_part() {
        let parts = [
            Part::StemConv,
            Part::StemNorm,
            Part::Layer {
                block: 1,
                layer: 1,
                op: 0,
            },
            Part::Layer {
                block: 2,
                layer: 10,
                op: 3,
            },
            Part::Transition { block: 3, op: 1 },
            Part::FinalNorm,
            Part::Classifier,
        ];
        for dialect in DIALECTS {
            for part in parts {
                if let Some(name) = dialect.format(part, Suffix::Weight) {
                    assert_eq!(dialect.parse(&name), Some((part, Suffix::Weight)), "{name}");
                }
            }
        }
    }

    #[test]
    fn near_misses_are_no_names() {
        let torchvision = &DIALECTS[0];
        for name in [
            "features.denseblock0.denselayer1.norm1.weight",
            "features.denseblock1.denselayer0.norm1.weight",
            "features.denseblock01.denselayer1.norm1.weight",
            "features.denseblock1.denselayer999999.norm1.weight",
            "features.denseblock1.denselayer1.norm1.",
            "features.denseblock1.denselayer1.norm3.weight",
            "features.denseblock.denselayer1.norm1.weight",
            "features.conv0.bias",
            "classifier.running_mean",
            "conv0.weight",
            "",
        ] {
            assert_eq!(torchvision.parse(name), None, "{name}");
        }
    }
}
