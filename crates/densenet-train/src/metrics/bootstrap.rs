//! How much a score would differ on other samples of the same kind: percentile bootstrap intervals.
//!
//! Each of the resamples draws, with replacement, as many samples of every class as the split has, computes all scores
//! again, and the middle 95 % of them are the interval. Where samples belong together (several images of a patient),
//! whole groups are drawn: images of one patient resemble each other, and drawing them apart would make the intervals too
//! narrow.
//!
//! # Determinism
//! A draw is a function of (seed, resample, stratum, position) by Philox: the same intervals on every machine, for any
//! number of threads.
//!
//! # Source
//! Efron & Tibshirani 1993, "An Introduction to the Bootstrap", ch. 13 (percentiles); Davison & Hinkley 1997, ch. 3.8
//! (groups).

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use crate::spec::philox4x32;

/// Where the middle 95 % of the resamples' scores lie: `[low, high]`.
pub type Interval = [f64; 2];

/// How intervals are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bootstrap {
    /// Resamples at most; fewer where samples times classes would make them take minutes, none for 0.
    pub resamples: usize,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Bootstrap {
            resamples: 1000,
            seed: 0,
        }
    }
}

/// The middle 95 %.
pub const LEVEL: f64 = 0.95;
/// Steps of the innermost loop that all resamples together may take: a few seconds.
const BUDGET: usize = 2_000_000_000;
/// Counts of draws that are kept at a time, a byte each.
const MOST_COUNTS: usize = 100_000_000;
/// Fewer resamples than this say nothing about 2.5 %.
const FEWEST: usize = 100;

/// Intervals of an evaluation's scores.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Intervals {
    /// The share of resamples that each interval covers.
    pub level: f64,
    /// Resamples made.
    pub resamples: usize,
    /// What was drawn: `samples` within their class, or whole `groups`.
    pub unit: &'static str,
    /// Of the accuracy.
    pub accuracy: Option<Interval>,
    /// Of the mean recall.
    pub balanced_accuracy: Option<Interval>,
    /// Of the mean F1.
    pub macro_f1: Option<Interval>,
    /// Of the mean AUROC.
    pub macro_auroc: Option<Interval>,
    /// Of each class's scores.
    pub per_class: Vec<ClassIntervals>,
}

/// Intervals of one class's scores; `None` where the score itself is, or is in half of the resamples.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ClassIntervals {
    /// Of the precision.
    pub precision: Option<Interval>,
    /// Of the recall.
    pub recall: Option<Interval>,
    /// Of F1.
    pub f1: Option<Interval>,
    /// Of the AUROC.
    pub auroc: Option<Interval>,
}

/// What was answered, as the bootstrap needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answers<'a> {
    /// `[samples, classes]`
    pub(super) probabilities: &'a [f32],
    pub(super) answers: &'a [u32],
    pub(super) labels: &'a [u32],
    pub(super) classes: usize,
    /// Which samples belong together, one number for each sample.
    pub(super) groups: Option<&'a [u32]>,
}

impl Bootstrap {
    /// The intervals; `None` without samples, or with too many for resampling.
    pub(super) fn intervals(&self, answers: &Answers<'_>) -> Option<Intervals> {
        let (n, classes) = (answers.labels.len(), answers.classes);
        let affordable = (BUDGET / (n * classes).max(1)).min(MOST_COUNTS / n.max(1));
        let resamples = self.resamples.min(affordable);
        if n == 0 || resamples < FEWEST.min(self.resamples) || resamples == 0 {
            return None;
        }
        let strata = strata(answers);
        let mut counts = vec![0u8; n * resamples];
        counts
            .par_chunks_exact_mut(n)
            .enumerate()
            .for_each(|(resample, counts)| draw(self.seed, resample, &strata, counts));
        let tables: Vec<Table> = counts
            .par_chunks_exact(n)
            .map(|counts| Table::new(answers, counts))
            .collect();
        let mut areas = vec![vec![None; classes]; resamples];
        for c in 0..classes {
            let order = Ranked::new(answers, c);
            let column: Vec<Option<f64>> =
                counts.par_chunks_exact(n).map(|w| order.area(w)).collect();
            for (row, area) in areas.iter_mut().zip(column) {
                if let Some(place) = row.get_mut(c) {
                    *place = area;
                }
            }
        }
        let over = |score: &dyn Fn(&Table) -> Option<f64>| interval(tables.iter().map(score));
        let class = |c: usize| ClassIntervals {
            precision: over(&|t| t.ratio(c, |k| (k.hits, k.called))),
            recall: over(&|t| t.ratio(c, |k| (k.hits, k.samples))),
            f1: over(&|t| t.ratio(c, |k| (2 * k.hits, k.samples + k.called))),
            auroc: interval(areas.iter().map(|row| row.get(c).copied().flatten())),
        };
        Some(Intervals {
            level: LEVEL,
            resamples,
            unit: if answers.groups.is_some() {
                "groups"
            } else {
                "samples"
            },
            accuracy: over(&|t| Some(t.right as f64 / t.samples as f64)),
            balanced_accuracy: over(&|t| t.mean(|k| (k.hits, k.samples))),
            macro_f1: over(&|t| t.mean(|k| (2 * k.hits, k.samples + k.called))),
            macro_auroc: interval(areas.iter().map(|row| mean(row.iter().copied()))),
            per_class: (0..classes).map(class).collect(),
        })
    }
}

/// Where the middle 95 % of resamples' mean gains lie, samples being drawn within their class; `None` without samples, or
/// with too many.
pub(crate) fn paired_interval(labels: &[u32], gains: &[i8]) -> Option<Interval> {
    let resamples = Bootstrap::default().resamples;
    if labels.is_empty() || labels.len() > BUDGET / resamples {
        return None;
    }
    let strata = strata(&Answers {
        probabilities: &[],
        answers: &[],
        labels,
        classes: 0,
        groups: None,
    });
    let means: Vec<Option<f64>> = (0..resamples)
        .into_par_iter()
        .map(|resample| {
            let mut counts = vec![0; labels.len()];
            draw(0, resample, &strata, &mut counts);
            let weighed = counts.iter().zip(gains);
            let sum: i64 = weighed.map(|(&n, &g)| i64::from(n) * i64::from(g)).sum();
            Some(sum as f64 / labels.len() as f64)
        })
        .collect();
    interval(means.into_iter())
}

/// The units that are drawn, in strata that keep their sizes: units of a class alone, those of several classes together.
fn strata(answers: &Answers<'_>) -> Vec<Vec<Vec<u32>>> {
    let mut units: BTreeMap<(bool, u32), Vec<u32>> = BTreeMap::new();
    for (i, _) in answers.labels.iter().enumerate() {
        let key = match answers.groups.and_then(|g| g.get(i)) {
            Some(&group) => (true, group),
            None => (false, i as u32),
        };
        units.entry(key).or_default().push(i as u32);
    }
    let label = |i: &u32| answers.labels.get(*i as usize).copied();
    let mut strata: BTreeMap<u32, Vec<Vec<u32>>> = BTreeMap::new();
    for unit in units.into_values() {
        let first = unit.first().and_then(label).unwrap_or(0);
        let pure = unit.iter().all(|i| label(i) == Some(first));
        let stratum = if pure { first } else { u32::MAX };
        strata.entry(stratum).or_default().push(unit);
    }
    strata.into_values().collect()
}

/// Adds the counts of one resample.
fn draw(seed: u64, resample: usize, strata: &[Vec<Vec<u32>>], counts: &mut [u8]) {
    let key = [seed as u32, (seed >> 32) as u32];
    for (s, units) in strata.iter().enumerate() {
        for i in 0..units.len() {
            let block = philox4x32(key, [i as u32, s as u32, resample as u32, TAG]);
            let bits = u64::from(block[0]) | u64::from(block[1]) << 32;
            let chosen = ((u128::from(bits) * units.len() as u128) >> 64) as usize;
            for &sample in units.get(chosen).map_or(&[][..], Vec::as_slice) {
                if let Some(count) = counts.get_mut(sample as usize) {
                    *count = count.saturating_add(1);
                }
            }
        }
    }
}

/// Keeps these draws apart from all others under the same seed.
const TAG: u32 = 0x626f_6f74;

/// A class's counts in a resample.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    samples: u64,
    called: u64,
    hits: u64,
}

/// All classes' counts in a resample.
struct Table {
    samples: u64,
    right: u64,
    classes: Vec<Counts>,
}

impl Table {
    fn new(answers: &Answers<'_>, counts: &[u8]) -> Self {
        let mut table = Table {
            samples: 0,
            right: 0,
            classes: vec![Counts::default(); answers.classes],
        };
        let pairs = answers.labels.iter().zip(answers.answers);
        for ((&label, &answer), &count) in pairs.zip(counts) {
            let count = u64::from(count);
            table.samples += count;
            if let Some(k) = table.classes.get_mut(label as usize) {
                k.samples += count;
            }
            if let Some(k) = table.classes.get_mut(answer as usize) {
                k.called += count;
                if label == answer {
                    k.hits += count;
                    table.right += count;
                }
            }
        }
        table
    }

    fn ratio(&self, class: usize, parts: impl Fn(&Counts) -> (u64, u64)) -> Option<f64> {
        let (part, whole) = parts(self.classes.get(class)?);
        super::share(part, whole)
    }

    fn mean(&self, parts: impl Fn(&Counts) -> (u64, u64)) -> Option<f64> {
        mean((0..self.classes.len()).map(|c| self.ratio(c, &parts)))
    }
}

/// A class's samples from the lowest score to the highest, with where the ties end.
struct Ranked {
    /// Sample, whether it is of the class, whether the next one scores higher.
    order: Vec<(u32, bool, bool)>,
}

impl Ranked {
    fn new(answers: &Answers<'_>, class: usize) -> Self {
        let scores = answers
            .probabilities
            .iter()
            .skip(class)
            .step_by(answers.classes.max(1));
        let mut rows: Vec<(f32, u32, bool)> = scores
            .zip(answers.labels)
            .enumerate()
            .map(|(i, (&score, &label))| (score, i as u32, label as usize == class))
            .collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let next = rows
            .iter()
            .skip(1)
            .map(|r| r.0)
            .chain(std::iter::once(f32::NAN));
        let order = rows
            .iter()
            .zip(next)
            .map(|(r, next)| (r.1, r.2, r.0 != next));
        Ranked {
            order: order.collect(),
        }
    }

    /// The area under the ROC curve of a resample, as [`super::auroc`] of its samples.
    fn area(&self, counts: &[u8]) -> Option<f64> {
        // Twice the number of pairs, ties counting half: whole numbers, so exact.
        let (mut pairs, mut below) = (0u64, 0u64);
        let (mut positives, mut negatives) = (0u64, 0u64);
        let mut all_positives = 0u64;
        for &(sample, positive, last) in &self.order {
            let count = counts.get(sample as usize).map_or(0, |&c| u64::from(c));
            if positive {
                positives += count;
            } else {
                negatives += count;
            }
            if last {
                pairs += positives * (2 * below + negatives);
                below += negatives;
                all_positives += positives;
                (positives, negatives) = (0, 0);
            }
        }
        let whole = all_positives * below;
        (whole > 0).then(|| pairs as f64 / (2 * whole) as f64)
    }
}

/// The mean of those that are; `None` where none is.
pub(super) fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let (sum, count) = values
        .flatten()
        .fold((0.0, 0u64), |(sum, count), v| (sum + v, count + 1));
    (count > 0).then(|| sum / count as f64)
}

/// The middle [`LEVEL`] of the values, between order statistics linearly; `None` where half of them are missing.
fn interval(values: impl Iterator<Item = Option<f64>>) -> Option<Interval> {
    let mut total = 0;
    let mut values: Vec<f64> = values.inspect(|_| total += 1).flatten().collect();
    if values.is_empty() || 2 * values.len() < total {
        return None;
    }
    values.sort_by(f64::total_cmp);
    let quantile = |q: f64| {
        let place = q * (values.len() - 1) as f64;
        let low = values.get(place as usize).copied()?;
        let high = values.get(place as usize + 1).copied().unwrap_or(low);
        Some(low + (high - low) * place.fract())
    };
    let tail = (1.0 - LEVEL) / 2.0;
    Some([quantile(tail)?, quantile(1.0 - tail)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers<'a>(labels: &'a [u32], answers: &'a [u32], p: &'a [f32]) -> Answers<'a> {
        Answers {
            probabilities: p,
            answers,
            labels,
            classes: 2,
            groups: None,
        }
    }

    #[test]
    fn quantiles_lie_between_order_statistics() {
        let values = (0..=40).rev().map(|v| Some(f64::from(v)));
        let [low, high] = interval(values).unwrap();
        assert!((low - 1.0).abs() < 1e-9 && (high - 39.0).abs() < 1e-9);
        assert_eq!(interval([None, None, Some(1.0)].into_iter()), None);
        assert_eq!(interval([None, Some(1.0)].into_iter()), Some([1.0, 1.0]));
    }

    #[test]
    fn gains_that_cancel_straddle_zero() {
        let labels: Vec<u32> = (0..200).map(|i| i % 2).collect();
        let gains: Vec<i8> = (0..200).map(|i| [1, 0, -1, 0, 0][i % 5]).collect();
        let [low, high] = paired_interval(&labels, &gains).unwrap();
        // Standard error √(0.4 / 200) = 0.045, times 1.96.
        assert!(
            (low + 0.088).abs() < 0.015 && (high - 0.088).abs() < 0.015,
            "{low} {high}"
        );
        assert_eq!(paired_interval(&[], &[]), None);
    }

    #[test]
    fn a_perfect_answer_has_no_spread_and_classes_keep_their_sizes() {
        let labels = [0, 0, 0, 1, 1];
        let p = [0.9, 0.1, 0.8, 0.2, 0.7, 0.3, 0.2, 0.8, 0.1, 0.9];
        let found = Bootstrap::default()
            .intervals(&answers(&labels, &labels, &p))
            .unwrap();
        assert_eq!(found.resamples, 1000);
        assert_eq!(found.accuracy, Some([1.0, 1.0]));
        assert_eq!(found.macro_auroc, Some([1.0, 1.0]));
        // One class alone would leave no area: it never happens.
        assert_eq!(found.per_class[1].auroc, Some([1.0, 1.0]));
        let mut counts = vec![0; 5];
        draw(7, 3, &strata(&answers(&labels, &labels, &p)), &mut counts);
        assert_eq!(counts[..3].iter().map(|&c| u32::from(c)).sum::<u32>(), 3);
        assert_eq!(counts[3..].iter().map(|&c| u32::from(c)).sum::<u32>(), 2);
    }

    #[test]
    fn groups_widen_what_their_likeness_hides() {
        // 20 patients with 10 images each; all images of a patient are right, or all wrong.
        let labels: Vec<u32> = (0..200).map(|i| i / 100).collect();
        let said: Vec<u32> = (0..200u32)
            .map(|i| {
                if (i / 10) % 5 == 0 {
                    1 - i / 100
                } else {
                    i / 100
                }
            })
            .collect();
        let p: Vec<f32> = said
            .iter()
            .flat_map(|&a| [1.0 - a as f32, a as f32])
            .collect();
        let groups: Vec<u32> = (0..200).map(|i| i / 10).collect();
        let alone = answers(&labels, &said, &p);
        let grouped = Answers {
            groups: Some(&groups),
            ..alone
        };
        let width = |a: &Answers<'_>| {
            let [low, high] = Bootstrap::default().intervals(a).unwrap().accuracy.unwrap();
            high - low
        };
        // Ten times fewer independent samples: about √10 times wider.
        let ratio = width(&grouped) / width(&alone);
        assert!((2.5..4.0).contains(&ratio), "{ratio}");
        // Groups of one are samples.
        let singles: Vec<u32> = (0..200).collect();
        let single = Answers {
            groups: Some(&singles),
            ..alone
        };
        assert_eq!(width(&single), width(&alone));
    }

    #[test]
    fn threads_change_no_bit_and_none_asked_is_none() {
        let labels: Vec<u32> = (0..60).map(|i| i * i % 2).collect();
        let said: Vec<u32> = (0..60).map(|i| i % 3 % 2).collect();
        let p: Vec<f32> = (0..120).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
        let call = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().unwrap();
            pool.install(|| Bootstrap::default().intervals(&answers(&labels, &said, &p)))
        };
        assert_eq!(call(1), call(3));
        assert!(call(1).is_some());
        let none = Bootstrap {
            resamples: 0,
            seed: 0,
        };
        assert_eq!(none.intervals(&answers(&labels, &said, &p)), None);
        assert_eq!(
            Bootstrap::default().intervals(&answers(&[], &[], &[])),
            None
        );
    }
}
