//! Confidence against accuracy, bin by bin.

use maud::{Markup, html};

use crate::{document::Calibration, number};

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 330.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 14.0;
/// The diagram, and below it how many samples each bin has.
const DIAGRAM: [f64; 2] = [226.0, 12.0];
const COUNTS: [f64; 2] = [290.0, 242.0];

/// The diagram as an `svg` element.
pub(crate) fn reliability(calibration: &Calibration) -> Markup {
    let x = |v: f64| LEFT + (WIDTH - RIGHT - LEFT) * v;
    let y = |v: f64| DIAGRAM[0] + (DIAGRAM[1] - DIAGRAM[0]) * v;
    let most = calibration.bins.iter().map(|b| b.samples).max();
    let most = most.unwrap_or(0).max(1) as f64;
    let label = format!(
        "Reliability diagram: expected calibration error {}, mean confidence {}, accuracy {}",
        number::plain(calibration.ece),
        number::plain(calibration.confidence),
        number::plain(calibration.accuracy)
    );
    html! {
        svg.chart xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(label) {
            @for tenth in [0.0, 0.2, 0.4, 0.6, 0.8, 1.0] {
                line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(fixed(y(tenth))) y2=(fixed(y(tenth))) {}
                text.tick x=(LEFT - 7.0) y=(fixed(y(tenth) + 4.0)) text-anchor="end" { (format!("{tenth:.1}")) }
                text.tick x=(fixed(x(tenth))) y=(COUNTS[0] + 17.0) text-anchor="middle" { (format!("{tenth:.1}")) }
            }
            @for bin in &calibration.bins {
                @let (left, width) = (x(bin.low) + 1.0, x(bin.high) - x(bin.low) - 2.0);
                @if let Some((confidence, accuracy)) = bin.means {
                    @let (top, bottom) = (y(accuracy.max(confidence)), y(accuracy.min(confidence)));
                    g.bin {
                        rect.bar x=(fixed(left)) width=(fixed(width)) y=(fixed(y(accuracy))) height=(fixed(y(0.0) - y(accuracy))) {}
                        rect.gap x=(fixed(left)) width=(fixed(width)) y=(fixed(top)) height=(fixed(bottom - top)) {}
                        rect.count x=(fixed(left)) width=(fixed(width))
                            y=(fixed(count(bin.samples, most))) height=(fixed(COUNTS[0] - count(bin.samples, most))) {}
                        rect.reach x=(fixed(left)) width=(fixed(width)) y=(DIAGRAM[1]) height=(COUNTS[0] - DIAGRAM[1]) {}
                        text x=(LEFT + 8.0) y=(DIAGRAM[1] + 14.0) {
                            (format!("confidence {confidence:.3}, accuracy {accuracy:.3}, {} samples", number::grouped(bin.samples)))
                        }
                    }
                }
            }
            line.diagonal x1=(fixed(x(0.0))) y1=(fixed(y(0.0))) x2=(fixed(x(1.0))) y2=(fixed(y(1.0))) {}
            line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(COUNTS[0]) y2=(COUNTS[0]) {}
            text.tick x=(LEFT - 7.0) y=(COUNTS[1] + 8.0) text-anchor="end" { (number::grouped(most as u64)) }
            text.axis x=(fixed(x(0.5))) y=(HEIGHT - 5.0) text-anchor="middle" { "confidence; above: accuracy, below: samples" }
        }
    }
}

/// The top of a bar of the histogram; few samples are still seen.
fn count(samples: u64, most: f64) -> f64 {
    let share = samples as f64 / most;
    (COUNTS[0] + (COUNTS[1] - COUNTS[0]) * share).min(COUNTS[0] - 1.5)
}

fn fixed(value: f64) -> String {
    format!("{value:.1}")
}
