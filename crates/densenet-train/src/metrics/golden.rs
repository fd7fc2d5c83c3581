//! Every score against scikit-learn (`tools/train/metrics.py`).

use serde::Deserialize;

use super::*;
use crate::golden::values;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    seed: u32,
    samples: usize,
    classes: usize,
    present: usize,
    group_size: Option<usize>,
    scores: Values<Option<f64>>,
    loss: f64,
    sklearn_balanced_accuracy: f64,
    calibration: GoldenCalibration,
    curves: Vec<Option<GoldenCurves>>,
    resamples: usize,
    intervals: Values<Option<Interval>>,
}

#[derive(Deserialize)]
struct Values<T> {
    accuracy: T,
    balanced_accuracy: T,
    macro_f1: T,
    macro_auroc: T,
    precision: Vec<T>,
    recall: Vec<T>,
    f1: Vec<T>,
    auroc: Vec<T>,
}

#[derive(Deserialize)]
struct GoldenCalibration {
    accuracy: Vec<f64>,
    confidence: Vec<f64>,
    samples: Vec<u64>,
    ece: f64,
    mce: f64,
    brier: f64,
}

#[derive(Deserialize)]
struct GoldenCurves {
    fpr: Vec<f64>,
    tpr: Vec<f64>,
    precision: Vec<f64>,
    recall: Vec<f64>,
    average_precision: f64,
}

impl Case {
    fn assessment(&self) -> Assessment {
        let labels: Vec<u32> = (0..self.samples)
            .map(|i| (i * i % self.present) as u32)
            .collect();
        let mut logits: Vec<f32> = values(self.seed, self.samples * self.classes, 2.0)
            .iter()
            .map(|v| (v * 4.0).round_ties_even() / 4.0)
            .collect();
        for (row, &label) in logits.chunks_exact_mut(self.classes).zip(&labels) {
            row[label as usize] += 1.0;
        }
        let mut scores = Scores::new(CrossEntropy::default(), self.classes);
        assert!(scores.add(&logits, &labels));
        let names: Vec<String> = (0..self.classes).map(|c| c.to_string()).collect();
        let groups = self.group_size.map(|size| {
            let group = |i| (i / size) as u32;
            (0..self.samples).map(group).collect::<Vec<u32>>()
        });
        let bootstrap = Bootstrap {
            resamples: self.resamples,
            seed: u64::from(self.seed),
        };
        Assessment::new(scores.finish(&names), groups.as_deref(), bootstrap)
    }
}

#[track_caller]
fn close(ours: f64, theirs: f64, tolerance: f64, what: &str) {
    assert!(
        (ours - theirs).abs() <= tolerance,
        "{what}: {ours} {theirs}"
    );
}

#[track_caller]
fn same(ours: Option<f64>, theirs: Option<f64>, what: &str) {
    match (ours, theirs) {
        (Some(a), Some(b)) => close(a, b, 1e-12, what),
        (a, b) => assert_eq!(a, b, "{what}"),
    }
}

#[track_caller]
fn same_interval(ours: Option<Interval>, theirs: Option<Interval>, what: &str) {
    same(ours.map(|i| i[0]), theirs.map(|i| i[0]), what);
    same(ours.map(|i| i[1]), theirs.map(|i| i[1]), what);
}

fn cases() -> Vec<(Case, Assessment)> {
    let text = include_str!("../../tests/golden/metrics.json");
    let golden: Golden = serde_json::from_str(text).unwrap();
    let both = |case: Case| {
        let assessment = case.assessment();
        (case, assessment)
    };
    golden.cases.into_iter().map(both).collect()
}

#[test]
fn scores_agree() {
    for (case, ours) in cases() {
        let (e, s) = (&ours.evaluation, &case.scores);
        same(Some(e.accuracy), s.accuracy, "accuracy");
        same(e.balanced_accuracy, s.balanced_accuracy, "balanced");
        same(
            e.balanced_accuracy,
            Some(case.sklearn_balanced_accuracy),
            "balanced accuracy",
        );
        same(e.macro_f1, s.macro_f1, "macro F1");
        same(e.macro_auroc, s.macro_auroc, "macro AUROC");
        close(e.loss, case.loss, 1e-12, "loss");
        for (c, class) in e.per_class.iter().enumerate() {
            same(class.precision, s.precision[c], "precision");
            same(class.recall, s.recall[c], "recall");
            same(class.f1, s.f1[c], "F1");
            same(class.auroc, s.auroc[c], "AUROC");
        }
    }
}

#[test]
fn curves_agree() {
    for (case, ours) in cases() {
        for (c, expected) in case.curves.iter().enumerate() {
            let curve = ours.evaluation.curve(c);
            let Some(expected) = expected else {
                assert_eq!((curve.roc(), curve.precision_recall()), (None, None));
                continue;
            };
            let check = |ours: Vec<(f64, f64)>, x: &[f64], y: &[f64], what: &str| {
                assert_eq!(ours.len(), x.len(), "{what}");
                for (point, (&x, &y)) in ours.iter().zip(x.iter().zip(y)) {
                    close(point.0, x, 1e-12, what);
                    close(point.1, y, 1e-12, what);
                }
            };
            check(curve.roc().unwrap(), &expected.fpr, &expected.tpr, "ROC");
            check(
                curve.precision_recall().unwrap(),
                &expected.recall,
                &expected.precision,
                "precision and recall",
            );
            let ours = curve.average_precision();
            same(ours, Some(expected.average_precision), "average precision");
        }
    }
}

#[test]
fn calibrations_agree() {
    for (case, ours) in cases() {
        let (ours, expected) = (ours.calibration.unwrap(), &case.calibration);
        let full: Vec<&Bin> = ours.bins.iter().filter(|b| b.samples > 0).collect();
        let samples: Vec<u64> = full.iter().map(|b| b.samples).collect();
        assert_eq!(samples, expected.samples);
        for (i, bin) in full.iter().enumerate() {
            same(
                bin.accuracy,
                Some(expected.accuracy[i]),
                "accuracy of a bin",
            );
            same(bin.confidence, Some(expected.confidence[i]), "confidence");
        }
        close(ours.ece, expected.ece, 1e-12, "ECE");
        close(ours.mce, expected.mce, 1e-12, "MCE");
        close(ours.brier, expected.brier, 1e-12, "Brier");
    }
}

#[test]
fn intervals_agree() {
    for (case, ours) in cases() {
        let (ours, expected) = (ours.intervals.unwrap(), &case.intervals);
        same_interval(ours.accuracy, expected.accuracy, "accuracy");
        same_interval(
            ours.balanced_accuracy,
            expected.balanced_accuracy,
            "balanced accuracy",
        );
        same_interval(ours.macro_f1, expected.macro_f1, "macro F1");
        same_interval(ours.macro_auroc, expected.macro_auroc, "macro AUROC");
        for (c, class) in ours.per_class.iter().enumerate() {
            same_interval(class.precision, expected.precision[c], "precision");
            same_interval(class.recall, expected.recall[c], "recall");
            same_interval(class.f1, expected.f1[c], "F1");
            same_interval(class.auroc, expected.auroc[c], "AUROC");
        }
    }
}
