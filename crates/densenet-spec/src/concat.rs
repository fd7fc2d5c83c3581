//! The order in which a dense layer's new features join the old ones.

/// Order of concatenation inside a dense block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConcatOrder {
    /// `[old, new]`: the paper's order and every well-known implementation's.
    #[default]
    OldNew,
    /// `[new, old]`: newest first, as in some small variants.
    NewOld,
}

impl ConcatOrder {
    /// The name used in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            ConcatOrder::OldNew => "old_new",
            ConcatOrder::NewOld => "new_old",
        }
    }

    /// The order called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        [ConcatOrder::OldNew, ConcatOrder::NewOld]
            .into_iter()
            .find(|o| o.name() == name)
    }
}

/// Where each channel of a concatenation lies in a buffer that appends.
///
/// A dense block's buffer always holds `[x0, f1, f2, …]`: the block's input, then each layer's new features right
/// behind. Entry `i` of the result is the place in that buffer of the `i`-th channel of the concatenation as the network
/// defines it, after `layers` layers have added `growth_rate` channels each to `c_block` input channels. It is the
/// identity for `[old, new]`; for `[new, old]` the groups come in reverse: `[f_layers, …, f1, x0]`.
pub fn physical_channels(
    order: ConcatOrder,
    c_block: usize,
    growth_rate: usize,
    layers: usize,
) -> Vec<usize> {
    match order {
        ConcatOrder::OldNew => (0..c_block + layers * growth_rate).collect(),
        ConcatOrder::NewOld => (0..layers)
            .rev()
            .flat_map(|l| (0..growth_rate).map(move |j| c_block + l * growth_rate + j))
            .chain(0..c_block)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_features_come_first_when_asked() {
        assert_eq!(
            physical_channels(ConcatOrder::NewOld, 3, 2, 2),
            [5, 6, 3, 4, 0, 1, 2]
        );
        assert_eq!(
            physical_channels(ConcatOrder::OldNew, 3, 2, 1),
            [0, 1, 2, 3, 4]
        );
    }
}
