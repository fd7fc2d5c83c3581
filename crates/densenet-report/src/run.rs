//! The page of a run or an evaluation.

use maud::{Markup, html};

use crate::{
    chart,
    document::{ClassRow, Evidence, Mistake, Report, Score, Scores},
    number,
    page::{facts, figure, page, table},
};

/// Classes up to which every count of the confusion matrix is written out.
const MOST_CELLS: usize = 24;
/// Pairs of classes in the list of frequent confusions.
const PAIRS: usize = 12;
/// Pictures with fewer pixels a side are drawn with their pixels in sight.
const COARSE: usize = 64;

impl Report {
    /// The page as one HTML file.
    pub fn html(&self) -> String {
        let curves: Vec<_> = self.curves.iter().filter(|c| !c.is_empty()).collect();
        let body = html! {
            header {
                p.kind { (self.kind) }
                h1 { (self.title) }
                @if !self.status.text.is_empty() {
                    p class=(if self.status.complete { "status" } else { "status open" }) {
                        b { @if self.status.complete { "Complete" } @else { "Not complete" } } ": " (self.status.text)
                    }
                }
                @if !self.notes.is_empty() {
                    ul.notes { @for note in &self.notes { li { (note) } } }
                }
                @if !self.figures.is_empty() {
                    dl.figures {
                        @for f in &self.figures {
                            div { dt { (f.label) } dd { (f.value) } dd.below { (f.below) } }
                        }
                    }
                }
            }
            @if !curves.is_empty() {
                section {
                    h2 { "Training" }
                    div.charts { @for chart in curves { (figure(chart)) } }
                    @if !self.epochs.rows.is_empty() {
                        details { summary { "Numbers of every epoch" } (table(&self.epochs)) }
                    }
                }
            }
            @if let Some(scores) = &self.scores { (self::scores(scores)) }
            @if !self.facts.is_empty() {
                section {
                    h2 { "Facts" }
                    div.columns { @for list in &self.facts { (facts(list)) } }
                }
            }
            @if !self.configuration.is_empty() {
                section {
                    h2 { "Configuration" }
                    details open { summary { "config.toml" } pre { code { (self.configuration) } } }
                }
            }
        };
        let title = format!("{} · {}", self.title, self.kind);
        page(&title, &self.maker, &body)
    }
}

fn scores(scores: &Scores) -> Markup {
    html! {
        section {
            h2 { (scores.title) }
            (classes(scores))
            @if !scores.intervals.is_empty() { p.quiet { (scores.intervals) } }
        }
        @if scores.confusion.len() > 1 {
            section { h2 { "Confusion" } (confusion(scores)) }
        }
        @if scores.calibration.is_some() || !scores.curves.is_empty() {
            section {
                h2 { "Probabilities" }
                div.charts {
                    @if let Some(c) = &scores.calibration {
                        figure {
                            figcaption { h3 { "Reliability" } }
                            (chart::reliability(c))
                            p.quiet {
                                "ECE " (number::share(Some(c.ece))) ", largest gap " (number::share(Some(c.mce)))
                                ", Brier score " (number::share(Some(c.brier))) ". Blue: how often answers of this confidence are right; orange: the gap to the diagonal. "
                                (verdict(c.confidence - c.accuracy))
                            }
                        }
                    }
                    @for chart in scores.curves.iter().filter(|c| !c.is_empty()) { (figure(chart)) }
                }
            }
        }
        @if !scores.mistakes.is_empty() {
            section {
                h2 { "Most confident mistakes" }
                p.quiet {
                    (scores.mistakes.len()) " of " (number::grouped(scores.mistakes_total)) " mistakes. Warm colours show where the \
                    evidence for a class lies (class activation maps), on one scale for both classes of a picture."
                }
                ul.mistakes { @for m in &scores.mistakes { (mistake(m)) } }
            }
        }
    }
}

/// What the sign of confidence − accuracy means.
fn verdict(difference: f64) -> &'static str {
    match difference {
        d if d > 0.01 => "The model is more confident than it is right.",
        d if d < -0.01 => "The model is less confident than it is right.",
        _ => "On the whole the model is as confident as it is right.",
    }
}

fn classes(scores: &Scores) -> Markup {
    let score = |s: &Score| {
        html! {
            td {
                (number::share(s.value))
                @if let (Some(_), Some([low, high])) = (s.value, s.interval) {
                    small { (format!("{low:.3}–{high:.3}")) }
                }
            }
        }
    };
    let row = |c: &ClassRow| {
        html! {
            tr {
                th scope="row" { (c.name) }
                td { (number::grouped(c.samples)) }
                (score(&c.precision)) (score(&c.recall)) (score(&c.f1)) (score(&c.auroc)) (score(&c.average_precision))
            }
        }
    };
    html! {
        div.wide tabindex="0" role="region" aria-label="Scores of each class" {
            table.numbers {
                thead {
                    tr {
                        @for name in ["Class", "Samples", "Precision", "Recall", "F1", "AUROC", "Average precision"] {
                            th scope="col" { (name) }
                        }
                    }
                }
                tbody { @for c in &scores.classes { (row(c)) } }
            }
        }
    }
}

fn confusion(scores: &Scores) -> Markup {
    let written = scores.confusion.len() <= MOST_CELLS;
    html! {
        p.quiet { "Rows are true classes, columns answers; shades are shares of a row." }
        div.two {
            @if written {
                div.wide tabindex="0" role="region" aria-label="Confusion matrix" { (cells(scores)) }
            } @else {
                figure { (chart::matrix(&scores.confusion)) }
            }
            (pairs(scores))
        }
    }
}

fn cells(scores: &Scores) -> Markup {
    let name = |i: usize| scores.classes.get(i).map_or("", |c| c.name.as_str());
    html! {
        table.confusion {
            thead {
                tr {
                    td {}
                    @for j in 0..scores.confusion.len() { th scope="col" title=(name(j)) { (j) } }
                }
            }
            tbody {
                @for (i, row) in scores.confusion.iter().enumerate() {
                    @let total: u64 = row.iter().sum();
                    tr {
                        th scope="row" title=(name(i)) {
                            (i) @if name(i) != i.to_string() { " " (name(i)) }
                        }
                        @for (j, &count) in row.iter().enumerate() {
                            td class=(shade(count, total, i == j)) title=(format!("{} called {}: {count}", name(i), name(j))) {
                                @if count == 0 { "·" } @else { (number::grouped(count)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// One of four shades, by the share of a row.
fn shade(count: u64, total: u64, hit: bool) -> String {
    if count == 0 {
        return "zero".into();
    }
    let quarter = (4 * count).div_ceil(total.max(1)).clamp(1, 4);
    format!("{}{quarter}", if hit { "hit" } else { "miss" })
}

/// The pairs of classes that are mixed up most often.
fn pairs(scores: &Scores) -> Markup {
    let name = |i: usize| scores.classes.get(i).map_or("", |c| c.name.as_str());
    let mut pairs: Vec<(u64, u64, usize, usize)> = Vec::new();
    for (i, row) in scores.confusion.iter().enumerate() {
        let total = row.iter().sum();
        for (j, &count) in row.iter().enumerate().filter(|(j, c)| i != *j && **c > 0) {
            pairs.push((count, total, i, j));
        }
    }
    pairs.sort_by_key(|&(count, _, i, j)| (std::cmp::Reverse(count), i, j));
    html! {
        @if pairs.is_empty() {
            p { "No sample was taken for another class." }
        } @else {
            div.wide tabindex="0" role="region" aria-label="Most frequent confusions" {
                table.numbers {
                    thead { tr { th scope="col" { "Most frequent confusions" } th scope="col" { "Samples" } th scope="col" { "Share of class" } } }
                    tbody {
                        @for (count, total, i, j) in pairs.iter().take(PAIRS) {
                            tr {
                                th scope="row" { (name(*i)) " called " (name(*j)) }
                                td { (number::grouped(*count)) }
                                td { (format!("{:.1} %", 100.0 * *count as f64 / (*total).max(1) as f64)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn mistake(mistake: &Mistake) -> Markup {
    let percent = |p: f64| format!("{:.1} %", 100.0 * p);
    html! {
        li {
            h3 {
                "called " b.answered { (mistake.answer.0) } " (" (percent(mistake.answer.1)) "), is "
                b { (mistake.truth.0) } " (" (percent(mistake.truth.1)) ")"
            }
            p.name { (mistake.name) }
            @for evidence in &mistake.evidence { (self::evidence(mistake, evidence)) }
        }
    }
}

fn evidence(mistake: &Mistake, evidence: &Evidence) -> Markup {
    let [width, height] = evidence.size;
    let class = (width.max(height) < COARSE).then_some("coarse");
    let plane = |what: &str| match evidence.plane.as_str() {
        "" => what.to_string(),
        plane => format!("{plane}: {what}"),
    };
    let layers = |map: Option<&String>, what: String| {
        html! {
            figure {
                figcaption { (what) }
                div.layers {
                    img class=[class] src=(evidence.picture) width=(width) height=(height) alt=(format!("{}: {what}", mistake.name));
                    @if let Some(map) = map { img src=(map) width=(width) height=(height) alt=""; }
                }
            }
        }
    };
    html! {
        div.evidence {
            (layers(None, plane("picture")))
            @if let Some(map) = &evidence.answer { (layers(Some(map), plane(&format!("for {}", mistake.answer.0)))) }
            @if let Some(map) = &evidence.truth { (layers(Some(map), plane(&format!("for {}", mistake.truth.0)))) }
        }
    }
}

#[cfg(test)]
mod tests;
