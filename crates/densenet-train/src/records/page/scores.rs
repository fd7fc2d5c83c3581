//! The part of a page about how well a model does.

use densenet_data::Split;
use densenet_report::{
    Calibration, CalibrationBin, Chart, ClassRow, Scale, Score, Scores, Series, Tone,
};

use crate::{
    metrics::{Assessment, Evaluation, Interval, Intervals},
    records::{Findings, HeldOut, mistakes},
};

/// Lines that a chart holds.
const MOST_LINES: usize = 6;

pub(super) fn of(findings: &Findings<'_>, held_out: &HeldOut) -> Scores {
    let assessment = &held_out.assessment;
    let (mistakes, mistakes_total) = mistakes::of(findings, held_out);
    Scores {
        title: title(findings, held_out),
        intervals: assessment
            .intervals
            .as_ref()
            .map_or(String::new(), described),
        classes: classes(assessment),
        confusion: assessment.evaluation.confusion.clone(),
        calibration: calibration(assessment),
        curves: curves(&assessment.evaluation),
        mistakes,
        mistakes_total,
    }
}

fn title(findings: &Findings<'_>, held_out: &HeldOut) -> String {
    let split = match held_out.split {
        Split::Train => "Training split",
        Split::Val => "Validation split",
        Split::Test => "Test split",
    };
    let samples = held_out.assessment.evaluation.samples;
    match findings.training.as_ref().map(|t| t.complete) {
        Some(true) => format!("{split}, best model ({samples} samples)"),
        Some(false) => format!("{split}, best epoch so far ({samples} samples)"),
        None => format!("{split} ({samples} samples)"),
    }
}

fn described(intervals: &Intervals) -> String {
    let unit = match intervals.unit {
        "groups" => "whole groups",
        _ => "samples within their class",
    };
    format!(
        "Below each score: where the middle {:.0} % of {} bootstrap resamples lie, drawing {unit} with replacement. \
         It says how much the score would vary with other samples of the same kind, not with another training. Of a few samples, \
         or where all are right, a bootstrap sees no spread: there the intervals are too narrow.",
        100.0 * intervals.level,
        intervals.resamples
    )
}

fn classes(assessment: &Assessment) -> Vec<ClassRow> {
    let intervals = assessment.intervals.as_ref();
    let rows = assessment.evaluation.per_class.iter().enumerate();
    rows.map(|(i, class)| {
        let found = intervals.and_then(|all| all.per_class.get(i));
        let score = |value: Option<f64>, interval: Option<Interval>| Score { value, interval };
        ClassRow {
            name: class.class.clone(),
            samples: class.samples,
            precision: score(class.precision, found.and_then(|f| f.precision)),
            recall: score(class.recall, found.and_then(|f| f.recall)),
            f1: score(class.f1, found.and_then(|f| f.f1)),
            auroc: score(class.auroc, found.and_then(|f| f.auroc)),
            average_precision: score(class.average_precision, None),
        }
    })
    .collect()
}

fn calibration(assessment: &Assessment) -> Option<Calibration> {
    let found = assessment.calibration.as_ref()?;
    Some(Calibration {
        ece: found.ece,
        mce: found.mce,
        brier: found.brier,
        confidence: found.confidence,
        accuracy: assessment.evaluation.accuracy,
        bins: found
            .bins
            .iter()
            .map(|b| CalibrationBin {
                low: b.low,
                high: b.high,
                samples: b.samples,
                means: b.confidence.zip(b.accuracy),
            })
            .collect(),
    })
}

/// ROC and precision-recall curves of the classes that are hardest to tell.
fn curves(evaluation: &Evaluation) -> Vec<Chart> {
    let mut hardest: Vec<usize> = (0..evaluation.classes.len()).collect();
    let auroc = |c: &usize| evaluation.per_class.get(*c).and_then(|s| s.auroc);
    hardest.retain(|c| auroc(c).is_some());
    let all = hardest.len();
    if all > MOST_LINES {
        hardest.sort_by(|a, b| {
            auroc(a)
                .partial_cmp(&auroc(b))
                .unwrap_or(a.cmp(b))
                .then(a.cmp(b))
        });
        hardest.truncate(MOST_LINES);
        hardest.sort_unstable();
    }
    let curves: Vec<_> = hardest.iter().map(|&c| (c, evaluation.curve(c))).collect();
    let line = |n: usize, class: usize, score: Option<f64>, points: Vec<(f64, f64)>| {
        let name = evaluation.classes.get(class).map_or("", |c| c);
        let score = score.map_or(String::new(), |s| format!(" {s:.3}"));
        Series::new(&format!("{name}{score}"), Tone::Number(n), thinned(&points))
    };
    let roc = curves
        .iter()
        .enumerate()
        .filter_map(|(n, (class, curve))| Some(line(n, *class, curve.area(), curve.roc()?)));
    let pr = curves.iter().enumerate().filter_map(|(n, (class, curve))| {
        Some(line(
            n,
            *class,
            curve.average_precision(),
            curve.precision_recall()?,
        ))
    });
    let caption = if all > MOST_LINES {
        format!("The {MOST_LINES} classes of {all} with the lowest AUROC, each against all others.")
    } else {
        "Each class against all others.".to_string()
    };
    let chart = |title: &str, x_label: &str, series: Vec<Series>| Chart {
        title: title.into(),
        x_label: x_label.into(),
        x: Scale::Unit,
        y: Scale::Unit,
        series,
        caption: caption.clone(),
        ..Chart::default()
    };
    vec![
        Chart {
            diagonal: true,
            ..chart(
                "ROC: true by false positive rate",
                "false positive rate",
                roc.collect(),
            )
        },
        chart("Precision by recall", "recall", pr.collect()),
    ]
}

/// The points at which a curve turns.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for (i, &point) in points.iter().enumerate() {
        let straight = match (kept.last(), points.get(i + 1)) {
            (Some(&(x, y)), Some(&(next_x, next_y))) => {
                let cross = (point.0 - x) * (next_y - y) - (point.1 - y) * (next_x - x);
                cross.abs() < 1e-12
            }
            _ => false,
        };
        if !straight {
            kept.push(point);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn straight_stretches_need_no_points() {
        let points = [(0.0, 0.0), (0.0, 0.25), (0.0, 0.5), (0.5, 0.5), (1.0, 1.0)];
        assert_eq!(
            thinned(&points),
            [(0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (1.0, 1.0)]
        );
        assert_eq!(thinned(&[]), []);
    }
}
