use super::*;
use crate::{Calibration, CalibrationBin, Chart, Facts, Figure, Series, Status, Table, Tone};

const BAD: &str = "<script>alert(\"x\")</script>&'";

/// A report whose every text is hostile.
fn hostile() -> Report {
    let bad = || BAD.to_string();
    let chart = |points: Vec<(f64, f64)>| Chart {
        caption: bad(),
        mark: Some((1.0, bad())),
        ..Chart::new(
            BAD,
            BAD,
            vec![
                Series::new(BAD, Tone::Main, points.clone()),
                Series::new(BAD, Tone::Quiet, points),
            ],
        )
    };
    let class = || ClassRow {
        name: bad(),
        samples: 3,
        recall: Score {
            value: Some(0.5),
            interval: Some([0.25, 0.75]),
        },
        ..ClassRow::default()
    };
    Report {
        title: bad(),
        kind: bad(),
        status: Status {
            text: bad(),
            complete: false,
        },
        notes: vec![bad()],
        figures: vec![Figure {
            label: bad(),
            value: bad(),
            below: bad(),
        }],
        curves: vec![chart(vec![(1.0, 0.1), (2.0, 0.2)])],
        epochs: Table {
            columns: vec![bad()],
            rows: vec![vec![bad()]],
        },
        scores: Some(Scores {
            title: bad(),
            intervals: bad(),
            classes: vec![class(), class()],
            confusion: vec![vec![2, 1], vec![0, 3]],
            calibration: Some(Calibration {
                bins: vec![CalibrationBin {
                    low: 0.9,
                    high: 1.0,
                    samples: 6,
                    means: Some((0.95, 0.9)),
                }],
                ..Calibration::default()
            }),
            curves: vec![chart(vec![(0.0, 0.0), (1.0, 1.0)])],
            mistakes: vec![Mistake {
                name: bad(),
                truth: (bad(), 0.1),
                answer: (bad(), 0.9),
                evidence: vec![Evidence {
                    plane: bad(),
                    size: [8, 8],
                    picture: "data:,".into(),
                    answer: Some("data:,".into()),
                    truth: None,
                }],
            }],
            mistakes_total: 1,
        }),
        facts: vec![Facts {
            title: bad(),
            rows: vec![(bad(), bad())],
        }],
        configuration: bad(),
        maker: bad(),
    }
}

#[test]
fn no_text_becomes_markup() {
    let html = hostile().html();
    assert!(!html.contains("<script"), "a text became an element");
    assert!(!html.contains("alert(\""), "a text left its attribute");
    assert!(html.matches("&lt;script&gt;").count() > 20);
    assert!(!html.contains("&amp;lt;"), "escaped twice");
}

#[test]
fn elements_are_balanced_and_nothing_is_loaded() {
    let html = hostile().html();
    for name in [
        "div", "table", "tr", "td", "th", "svg", "g", "figure", "section", "li", "p",
    ] {
        let open =
            html.matches(&format!("<{name} ")).count() + html.matches(&format!("<{name}>")).count();
        assert_eq!(open, html.matches(&format!("</{name}>")).count(), "{name}");
    }
    assert!(!html.contains(" style=\""));
    for (at, _) in html.match_indices("http") {
        let around = &html[at..(at + 30).min(html.len())];
        assert!(
            around.starts_with("http://www.w3.org/") || around.starts_with("http-equiv"),
            "{around}"
        );
    }
}

#[test]
fn empty_parts_are_left_out() {
    let html = Report {
        title: "t".into(),
        ..Report::default()
    }
    .html();
    assert!(!html.contains("<h2>") && !html.contains("<dl"), "{html}");
}

#[test]
fn many_classes_become_shades_and_pairs() {
    let n = MOST_CELLS + 1;
    let confusion = (0..n)
        .map(|i| {
            (0..n)
                .map(|j| u64::from(i == j) * 9 + u64::from(j == i + 1))
                .collect()
        })
        .collect();
    let scores = Scores {
        confusion,
        ..Scores::default()
    };
    let html = confusion_html(&scores);
    assert!(html.contains("class=\"hit\"") && !html.contains("class=\"confusion\""));
    assert_eq!(html.matches("10.0 %").count(), PAIRS);
}

fn confusion_html(scores: &Scores) -> String {
    super::confusion(scores).into_string()
}

#[test]
fn shades_follow_the_share_of_a_row() {
    assert_eq!(shade(0, 9, true), "zero");
    assert_eq!(shade(1, 100, false), "miss1");
    assert_eq!(shade(100, 100, true), "hit4");
    assert_eq!(shade(1, 0, true), "hit4");
}
