//! Runs side by side.

use maud::html;

use crate::{
    chart::Chart,
    document::Table,
    page::{figure, page, table},
};

/// Several runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Comparison {
    /// The runs, the one to compare with first.
    pub runs: Vec<Row>,
    /// Columns of the table of scores after the name.
    pub columns: Vec<String>,
    /// What the reader should know before comparing.
    pub notes: Vec<String>,
    /// Curves of all runs, one line for each.
    pub curves: Vec<Chart>,
    /// Differences of scores on the same samples; empty without any.
    pub differences: Table,
    /// How they were found.
    pub differences_note: String,
    /// Keys of the configurations that are not the same everywhere, one row each.
    pub options: Table,
    /// Who made this: program and version.
    pub maker: String,
}

/// A run's line in the table of scores.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// As many cells as columns; whether it is the best of its column.
    pub cells: Vec<(String, bool)>,
}

impl Comparison {
    /// The page as one HTML file.
    pub fn html(&self) -> String {
        let curves: Vec<_> = self.curves.iter().filter(|c| !c.is_empty()).collect();
        let body = html! {
            header {
                p.kind { "Comparison" }
                h1 { (self.runs.len()) " runs" }
                @if !self.notes.is_empty() {
                    ul.notes { @for note in &self.notes { li { (note) } } }
                }
            }
            section {
                h2 { "Scores" }
                div.wide.scores tabindex="0" role="region" aria-label="Scores of each run" {
                    table.numbers {
                        thead { tr { th scope="col" { "Run" } @for column in &self.columns { th scope="col" { (column) } } } }
                        tbody {
                            @for run in &self.runs {
                                tr {
                                    th scope="row" { (run.name) }
                                    @for (cell, best) in &run.cells { td { @if *best { b { (cell) } } @else { (cell) } } }
                                }
                            }
                        }
                    }
                }
            }
            @if !self.differences.rows.is_empty() {
                section {
                    h2 { "Differences on the same samples" }
                    (table(&self.differences))
                    p.quiet { (self.differences_note) }
                }
            }
            @if !curves.is_empty() {
                section { h2 { "Training" } div.charts { @for chart in curves { (figure(chart)) } } }
            }
            @if !self.options.rows.is_empty() {
                section.options { h2 { "Options that differ" } (table(&self.options)) }
            }
        };
        page("Comparison of runs", &self.maker, &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_the_best_stands_out() {
        let html = Comparison {
            runs: vec![Row {
                name: "<b>r".into(),
                cells: vec![("0.9".into(), true), ("1".into(), false)],
            }],
            columns: vec!["accuracy".into(), "<i>".into()],
            ..Comparison::default()
        }
        .html();
        assert!(html.contains("&lt;b&gt;r") && html.contains("&lt;i&gt;"));
        assert!(html.contains("<b>0.9</b>") && !html.contains("<b>1</b>"));
    }
}
