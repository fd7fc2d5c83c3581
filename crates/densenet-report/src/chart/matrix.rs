//! A confusion matrix of many classes, as shades alone.

use maud::{Markup, html};

const SIDE: f64 = 480.0;

/// The matrix as an `svg` element: rows are true classes, shades the share of a row.
pub(crate) fn matrix(confusion: &[Vec<u64>]) -> Markup {
    let cell = SIDE / confusion.len().max(1) as f64;
    let label = format!(
        "Confusion matrix of {} classes; rows are true classes, columns answers",
        confusion.len()
    );
    html! {
        svg.chart xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {SIDE} {SIDE}")) role="img" aria-label=(label) {
            rect.ground width=(SIDE) height=(SIDE) {}
            @for (i, row) in confusion.iter().enumerate() {
                @let total: u64 = row.iter().sum();
                @for (j, count) in row.iter().enumerate().filter(|(_, count)| **count > 0) {
                    @let share = *count as f64 / total.max(1) as f64;
                    rect class=(if i == j { "hit" } else { "miss" }) x=(fixed(j as f64 * cell)) y=(fixed(i as f64 * cell))
                        width=(fixed(cell)) height=(fixed(cell)) fill-opacity=(format!("{:.2}", 0.15 + 0.85 * share)) {}
                }
            }
        }
    }
}

fn fixed(value: f64) -> String {
    format!("{value:.2}")
}
