//! Dividing samples among training, validation and test: seeded, stratified, and by group where there are groups.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::random::{Purpose, shuffle};

/// The part of a data set that a sample belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// What the network learns from.
    Train,
    /// What decides when to stop and which checkpoint is best.
    Val,
    /// What is looked at once, at the end.
    Test,
}

impl Split {
    /// All three, in order.
    pub const ALL: [Split; 3] = [Split::Train, Split::Val, Split::Test];

    /// `train`, `val` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
            Split::Test => "test",
        }
    }

    /// The split that a folder's or a manifest's word means: train, training; val, valid, validation, dev;
    /// test, testing, in any case.
    pub fn from_name(name: &str) -> Option<Split> {
        match name.to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Split::Train),
            "val" | "valid" | "validation" | "dev" => Some(Split::Val),
            "test" | "testing" => Some(Split::Test),
            _ => None,
        }
    }

    pub(crate) fn position(self) -> usize {
        match self {
            Split::Train => 0,
            Split::Val => 1,
            Split::Test => 2,
        }
    }
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How samples without a split of their own are divided.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SplitOptions {
    /// Seed of the division. Keep it apart from the training seed: runs with different training seeds are
    /// comparable only on the same test images, and a later evaluation must find the same ones again.
    pub seed: u64,
    /// Share of samples for validation, where the source has no validation set of its own.
    pub val: f64,
    /// Share of samples for the test set, where the source has neither a test set nor any other split.
    pub test: f64,
}

impl Default for SplitOptions {
    fn default() -> SplitOptions {
        SplitOptions {
            seed: 0,
            val: 0.1,
            test: 0.1,
        }
    }
}

impl SplitOptions {
    pub(crate) fn validate(&self) -> Result<(), DataError> {
        for (name, share) in [("val", self.val), ("test", self.test)] {
            if !(0.0..1.0).contains(&share) {
                return Err(DataError::config(
                    format!("split.{name}"),
                    format!("a share of {share}"),
                    "give a number from 0 to below 1",
                ));
            }
        }
        if self.val + self.test >= 1.0 {
            return Err(DataError::config(
                "split",
                format!(
                    "val {} and test {} leave nothing to train on",
                    self.val, self.test
                ),
                "make them smaller",
            ));
        }
        Ok(())
    }
}

/// One sample as the division sees it.
pub(crate) struct Member<'a> {
    pub label: u32,
    pub group: Option<&'a str>,
}

/// Assign a split to each member. `shares` are those of validation and test; training gets the rest.
///
/// Without groups every class is shuffled on its own and cut: each class's share of each split is right to within
/// one sample, every class keeps at least one training sample, and gives at least one to each split that wants any
/// as soon as it has three. With groups, whole groups (samples without one count alone) are assigned, largest
/// first, each to the split that lacks its classes most: shares are then as right as the groups permit.
pub(crate) fn assign(members: &[Member<'_>], seed: u64, [val, test]: [f64; 2]) -> Vec<Split> {
    if members.iter().any(|m| m.group.is_some()) {
        assign_groups(members, seed, [1.0 - val - test, val, test])
    } else {
        assign_alone(members, seed, [val, test])
    }
}

fn assign_alone(members: &[Member<'_>], seed: u64, [val, test]: [f64; 2]) -> Vec<Split> {
    let mut by_class: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (i, member) in members.iter().enumerate() {
        by_class.entry(member.label).or_default().push(i);
    }
    let mut out = vec![Split::Train; members.len()];
    for (label, mut indices) in by_class {
        // The class takes the epoch's place in the key: classes are shuffled independently.
        shuffle(&mut indices, seed, label, Purpose::Split);
        let n = indices.len();
        let count = |share: f64| {
            let wanted = (n as f64 * share).round() as usize;
            if share > 0.0 && n >= 3 {
                wanted.max(1)
            } else {
                wanted
            }
        };
        let n_test = count(test).min(n.saturating_sub(1));
        let n_val = count(val).min(n.saturating_sub(1 + n_test));
        for (rank, i) in indices.into_iter().enumerate() {
            if let Some(split) = out.get_mut(i) {
                *split = match rank {
                    r if r < n_test => Split::Test,
                    r if r < n_test + n_val => Split::Val,
                    _ => Split::Train,
                };
            }
        }
    }
    out
}

fn assign_groups(members: &[Member<'_>], seed: u64, shares: [f64; 3]) -> Vec<Split> {
    let mut named: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (i, member) in members.iter().enumerate() {
        match member.group {
            Some(group) => named.entry(group).or_default().push(i),
            None => groups.push(vec![i]),
        }
    }
    groups.extend(named.into_values());
    shuffle(&mut groups, seed, 0, Purpose::Split);
    // Stable: equal sizes stay shuffled.
    groups.sort_by_key(|g| std::cmp::Reverse(g.len()));

    let classes = members
        .iter()
        .map(|m| m.label as usize + 1)
        .max()
        .unwrap_or(0);
    let mut totals = vec![0usize; classes];
    for member in members {
        totals[member.label as usize] += 1;
    }
    let mut filled = [
        vec![0usize; classes],
        vec![0usize; classes],
        vec![0usize; classes],
    ];
    let mut out = vec![Split::Train; members.len()];
    for group in groups {
        let lack = |split: Split| -> f64 {
            let (share, filled) = (shares[split.position()], &filled[split.position()]);
            if share <= 0.0 {
                return f64::NEG_INFINITY;
            }
            // How much of what the split still wants of this group's classes, relative to all it wants of them.
            group
                .iter()
                .map(|&i| {
                    let class = members[i].label as usize;
                    let wanted = totals[class] as f64 * share;
                    (wanted - filled[class] as f64) / wanted
                })
                .sum::<f64>()
        };
        let mut best = Split::Train;
        for split in [Split::Val, Split::Test] {
            if lack(split) > lack(best) {
                best = split;
            }
        }
        for i in group {
            filled[best.position()][members[i].label as usize] += 1;
            out[i] = best;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone(labels: &[u32]) -> Vec<Member<'static>> {
        labels
            .iter()
            .map(|&label| Member { label, group: None })
            .collect()
    }

    fn count(splits: &[Split], members: &[Member<'_>], label: u32, split: Split) -> usize {
        splits
            .iter()
            .zip(members)
            .filter(|(s, m)| **s == split && m.label == label)
            .count()
    }

    #[test]
    fn every_class_is_cut_alike() {
        let labels: Vec<u32> = (0..1000).map(|i| u32::from(i % 10 == 0)).collect();
        let members = alone(&labels);
        let splits = assign(&members, 7, [0.1, 0.2]);
        assert_eq!(count(&splits, &members, 0, Split::Val), 90);
        assert_eq!(count(&splits, &members, 0, Split::Test), 180);
        assert_eq!(count(&splits, &members, 1, Split::Val), 10);
        assert_eq!(count(&splits, &members, 1, Split::Test), 20);
        assert_eq!(splits, assign(&members, 7, [0.1, 0.2]));
        assert_ne!(splits, assign(&members, 8, [0.1, 0.2]));
    }

    #[test]
    fn small_classes_keep_a_training_sample() {
        for n in 1..6 {
            let members = alone(&vec![0; n]);
            let splits = assign(&members, 1, [0.4, 0.4]);
            assert!(count(&splits, &members, 0, Split::Train) >= 1, "{n}");
            if n >= 3 {
                assert!(count(&splits, &members, 0, Split::Val) >= 1, "{n}");
                assert!(count(&splits, &members, 0, Split::Test) >= 1, "{n}");
            }
        }
        assert!(
            assign(&alone(&[0; 9]), 1, [0.0, 0.0])
                .iter()
                .all(|s| *s == Split::Train)
        );
    }

    #[test]
    fn groups_stay_together_and_shares_hold() {
        let names: Vec<String> = (0..200).map(|i| format!("patient{}", i / 4)).collect();
        let members: Vec<Member<'_>> = names
            .iter()
            .enumerate()
            .map(|(i, name)| Member {
                label: u32::from(i / 4 % 5 == 0),
                group: Some(name),
            })
            .collect();
        let splits = assign(&members, 3, [0.2, 0.2]);
        for group in names.chunks(4).zip(splits.chunks(4)) {
            assert!(group.1.iter().all(|s| *s == group.1[0]), "{group:?}");
        }
        assert_eq!(count(&splits, &members, 0, Split::Test), 32);
        assert_eq!(count(&splits, &members, 1, Split::Test), 8);
        assert_eq!(count(&splits, &members, 1, Split::Val), 8);
    }

    #[test]
    fn names_of_splits() {
        assert_eq!(Split::from_name("Validation"), Some(Split::Val));
        assert_eq!(Split::from_name("cats"), None);
        for split in Split::ALL {
            assert_eq!(Split::from_name(split.name()), Some(split));
        }
    }

    #[test]
    fn impossible_shares_are_refused() {
        let error = SplitOptions {
            val: 0.5,
            test: 0.5,
            ..Default::default()
        }
        .validate()
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "split: val 0.5 and test 0.5 leave nothing to train on — make them smaller"
        );
        let error = SplitOptions {
            val: f64::NAN,
            ..Default::default()
        }
        .validate()
        .unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
