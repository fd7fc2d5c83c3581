//! The last steps every format shares: class names to labels, missing splits, checks, bookkeeping.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Dataset, Format, OpenOptions, Sample, Source, Store, split_indices};
use crate::error::{DataError, did_you_mean};
use crate::natural::natural_cmp;
use crate::split::{self, Member, Split};

/// A sample whose class is a name (as a position in a list of names) and whose split may be open.
pub(super) struct Draft {
    pub source: Source,
    pub class: usize,
    pub split: Option<Split>,
    pub group: Option<String>,
}

/// What a format's reader found.
pub(super) struct Found {
    pub name: String,
    pub format: Format,
    /// Class names that the drafts point into.
    pub classes: Vec<String>,
    /// Whether the order of `classes` is the source's own (CIFAR, IDX, …) rather than to be made natural.
    pub ordered: bool,
    pub drafts: Vec<Draft>,
    pub stores: Vec<Store>,
    pub notes: Vec<String>,
}

/// Turn what was found into a data set.
pub(super) fn assemble(found: Found, options: &OpenOptions) -> Result<Dataset, DataError> {
    let Found {
        name,
        format,
        classes: found_classes,
        ordered,
        mut drafts,
        stores,
        mut notes,
    } = found;
    if drafts.is_empty() {
        return Err(DataError::data(
            name,
            "no images were found",
            "add images, one folder per class",
        ));
    }
    let classes = match &options.classes {
        Some(classes) => classes.clone(),
        None => own_classes(&found_classes, ordered, &drafts),
    };
    let labels = labels_by_name(
        &name,
        &found_classes,
        &classes,
        &drafts,
        options.classes.is_some(),
    )?;
    let label = |draft: &Draft| labels.get(&draft.class).copied().unwrap_or(0);

    complete_splits(&mut drafts, &label, options, &mut notes);
    if options.classes.is_none() {
        check_training_classes(&name, &classes, &drafts, &label)?;
    }
    let mut samples: Vec<Sample> = Vec::with_capacity(drafts.len());
    let mut groups: BTreeMap<String, u32> = BTreeMap::new();
    for draft in drafts {
        let label = label(&draft);
        let next = groups.len() as u32;
        let group = draft.group.map(|name| *groups.entry(name).or_insert(next));
        samples.push(Sample {
            source: draft.source,
            label,
            split: draft.split.unwrap_or(Split::Train),
            group,
        });
    }
    let by_split = split_indices(&samples);
    Ok(Dataset {
        name,
        format,
        classes,
        samples,
        stores: Arc::new(stores),
        by_split,
        notes,
        cache: None,
    })
}

/// The classes that count: those of the training split where there is one, else all that occur.
fn own_classes(found: &[String], ordered: bool, drafts: &[Draft]) -> Vec<String> {
    if ordered {
        return found.to_vec();
    }
    let trains = |d: &Draft| matches!(d.split, None | Some(Split::Train));
    let any_training = drafts.iter().any(trains);
    let used: BTreeSet<usize> = drafts
        .iter()
        .filter(|d| trains(d) || !any_training)
        .map(|d| d.class)
        .collect();
    let mut names: Vec<String> = used.iter().filter_map(|&c| found.get(c).cloned()).collect();
    names.sort_by(|a, b| natural_cmp(a, b));
    names.dedup();
    names
}

/// For each found class its label, matched by name.
fn labels_by_name(
    name: &str,
    found: &[String],
    classes: &[String],
    drafts: &[Draft],
    model: bool,
) -> Result<BTreeMap<usize, u32>, DataError> {
    let positions: BTreeMap<&str, u32> = classes
        .iter()
        .zip(0u32..)
        .map(|(c, i)| (c.as_str(), i))
        .collect();
    let mut labels = BTreeMap::new();
    for draft in drafts {
        if labels.contains_key(&draft.class) {
            continue;
        }
        let class = found.get(draft.class).map_or("", String::as_str);
        let Some(&position) = positions.get(class) else {
            let hint = did_you_mean(class, classes.iter().map(String::as_str));
            let (whose, cure) = if model {
                (
                    "the model does not know",
                    "rename the class as in the model, or leave it out",
                )
            } else {
                (
                    "does not occur in the training split",
                    "rename it as in the training split, or leave it out",
                )
            };
            let what = match (model, draft.split) {
                (false, Some(split)) => format!("class `{class}` of split `{split}` {whose}"),
                (false, None) => format!("class `{class}` {whose}"),
                (true, _) => format!("class `{class}`, which {whose}"),
            };
            return Err(DataError::data(name, what, format!("{hint}{cure}")));
        };
        labels.insert(draft.class, position);
    }
    Ok(labels)
}

/// Give every sample a split: all three if the source has none, validation out of training if only that lacks.
fn complete_splits(
    drafts: &mut [Draft],
    label: &dyn Fn(&Draft) -> u32,
    options: &OpenOptions,
    notes: &mut Vec<String>,
) {
    let has = |drafts: &[Draft], split| drafts.iter().any(|d| d.split == Some(split));
    let divide = |drafts: &mut [Draft], from: Option<Split>, shares: [f64; 2]| {
        let chosen: Vec<usize> = drafts
            .iter()
            .enumerate()
            .filter(|(_, d)| d.split == from)
            .map(|(i, _)| i)
            .collect();
        let members: Vec<Member<'_>> = chosen
            .iter()
            .filter_map(|&i| drafts.get(i))
            .map(|d| Member {
                label: label(d),
                group: d.group.as_deref(),
            })
            .collect();
        let splits = split::assign(&members, options.split.seed, shares);
        let mut counts = [0usize; 3];
        for (&i, split) in chosen.iter().zip(splits) {
            counts[split.position()] += 1;
            if let Some(draft) = drafts.get_mut(i) {
                draft.split = Some(split);
            }
        }
        counts
    };
    let seed = options.split.seed;
    let given = Split::ALL.iter().any(|&split| has(drafts, split));
    if !given {
        let [train, val, test] = divide(drafts, None, [options.split.val, options.split.test]);
        notes.push(format!(
            "no splits given: divided by class into {train} train, {val} val, {test} test (split seed {seed})"
        ));
    } else if !has(drafts, Split::Val) && has(drafts, Split::Train) && options.split.val > 0.0 {
        let [train, val, _] = divide(drafts, Some(Split::Train), [options.split.val, 0.0]);
        notes.push(format!(
            "no validation split: {val} of {} training samples taken, by class (split seed {seed})",
            train + val
        ));
    }
}

/// At least two classes, and training samples for each, where there is anything to train on.
fn check_training_classes(
    name: &str,
    classes: &[String],
    drafts: &[Draft],
    label: &dyn Fn(&Draft) -> u32,
) -> Result<(), DataError> {
    if classes.len() < 2 {
        let only = classes.first().map_or("", String::as_str);
        return Err(DataError::data(
            name,
            format!("only one class, `{only}`: there is nothing to tell apart"),
            "give at least two classes, one folder each",
        ));
    }
    let mut counts = vec![0usize; classes.len()];
    for draft in drafts.iter().filter(|d| d.split == Some(Split::Train)) {
        if let Some(count) = counts.get_mut(label(draft) as usize) {
            *count += 1;
        }
    }
    if counts.iter().all(|&c| c == 0) {
        return Ok(()); // Nothing to train on; evaluation may still be possible.
    }
    match classes.iter().zip(counts).find(|(_, count)| *count == 0) {
        Some((class, _)) => Err(DataError::data(
            name,
            format!("class `{class}` has no training images"),
            "add images of it to the training split, or remove the class",
        )),
        None => Ok(()),
    }
}
