//! Lines in a frame.

use maud::{Markup, html};

use super::{Chart, Scale, Series, axis::Axis};
use crate::number;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;
/// Room for title and legend where the chart stands alone.
const HEAD: f64 = 44.0;
/// More places than this to rest on would be narrower than a finger.
const MOST_RESTS: usize = 80;
/// Points of a line beyond which neighbours fall onto the same pixel.
const MOST_POINTS: usize = 600;

/// Where a chart stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    /// On a page that has its style, title and legend.
    Page,
    /// In a file of its own.
    Alone,
}

/// The chart as an `svg` element.
pub(crate) fn line(chart: &Chart, frame: Frame) -> Markup {
    let head = match frame {
        Frame::Page => 0.0,
        Frame::Alone => HEAD,
    };
    let all = || chart.series.iter().flat_map(|s| s.points.iter());
    let across = [LEFT, WIDTH - RIGHT];
    let up = [head + HEIGHT - BOTTOM, head + TOP];
    let x = Axis::new(chart.x, all().map(|p| p.0), across, 6);
    let y = Axis::new(chart.y, all().map(|p| p.1), up, 5);
    let label = description(chart);
    let total = head + HEIGHT;
    html! {
        svg.chart xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {WIDTH} {total}")) role="img" aria-label=(label) {
            @if frame == Frame::Alone {
                style { (maud::PreEscaped(ALONE)) }
                text.title x=(LEFT) y="20" { (chart.title) }
                (legend(&chart.series))
            }
            (grid(&x, &y, up, &chart.x_label, total))
            @if chart.diagonal {
                line.diagonal x1=(across[0]) y1=(up[0]) x2=(across[1]) y2=(up[1]) {}
            }
            @if let Some((place, name)) = &chart.mark {
                @if let Some(at) = x.place(*place) {
                    line.mark x1=(fixed(at)) x2=(fixed(at)) y1=(up[0]) y2=(up[1]) {}
                    text.marked x=(fixed(at)) y=(fixed(away(chart, &y, *place, up))) text-anchor=(if at > WIDTH / 2.0 { "end" } else { "start" })
                        dx=(if at > WIDTH / 2.0 { -4 } else { 4 }) { (name) }
                }
            }
            @for series in &chart.series { (path(series, &x, &y)) }
            (rests(chart, &x, up))
        }
    }
}

/// Where a name at `place` is out of the lines' way: at the top or at the bottom.
fn away(chart: &Chart, y: &Axis, place: f64, [bottom, top]: [f64; 2]) -> f64 {
    let points = chart.series.iter().flat_map(|s| s.points.iter());
    let near = points.filter(|p| p.0 == place).filter_map(|p| y.place(p.1));
    let (sum, count) = near.fold((0.0, 0.0), |(sum, count), at| (sum + at, count + 1.0));
    if count > 0.0 && sum / count < (bottom + top) / 2.0 {
        bottom - 8.0
    } else {
        top + 10.0
    }
}

fn grid(x: &Axis, y: &Axis, up: [f64; 2], x_label: &str, total: f64) -> Markup {
    html! {
        @for (value, name) in y.ticks(5) {
            @if let Some(at) = y.place(value) {
                line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(fixed(at)) y2=(fixed(at)) {}
                text.tick x=(LEFT - 7.0) y=(fixed(at + 4.0)) text-anchor="end" { (name) }
            }
        }
        @for (value, name) in x.ticks(6) {
            @if let Some(at) = x.place(value) {
                line.grid x1=(fixed(at)) x2=(fixed(at)) y1=(up[0]) y2=(up[0] + 4.0) {}
                text.tick x=(fixed(at)) y=(up[0] + 18.0) text-anchor="middle" { (name) }
            }
        }
        text.axis x=(fixed((LEFT + WIDTH - RIGHT) / 2.0)) y=(total - 5.0) text-anchor="middle" { (x_label) }
    }
}

/// The names beside their colours, for a chart that stands alone.
fn legend(series: &[Series]) -> Markup {
    let mut at = LEFT;
    let places: Vec<f64> = series
        .iter()
        .map(|s| {
            let here = at;
            at += 42.0 + 6.6 * s.name.chars().count() as f64;
            here
        })
        .collect();
    html! {
        @for (s, at) in series.iter().zip(places) {
            path class=(format!("line {}", s.tone.class())) d=(format!("M{at:.0} 36h22")) {}
            text.name x=(format!("{:.0}", at + 28.0)) y="40" { (s.name) }
        }
    }
}

fn path(series: &Series, x: &Axis, y: &Axis) -> Markup {
    let mut d = String::new();
    let mut lifted = true;
    let mut drawn = Vec::new();
    let every = series.points.len().div_ceil(MOST_POINTS).max(1);
    let last = series.points.len().saturating_sub(1);
    for (i, &(px, py)) in series.points.iter().enumerate() {
        if i % every != 0 && i != last {
            continue;
        }
        let (Some(px), Some(py)) = (x.place(px), y.place(py)) else {
            lifted = true;
            continue;
        };
        d.push_str(if lifted { "M" } else { "L" });
        d.push_str(&format!("{px:.1} {py:.1}"));
        lifted = false;
        drawn.push((px, py));
    }
    let class = series.tone.class();
    html! {
        path class=(format!("line {class}")) d=(d) {}
        // A line of one point would not be seen.
        @if let [(px, py)] = drawn.as_slice() {
            circle class=(format!("dot {class}")) cx=(fixed(*px)) cy=(fixed(*py)) r="3.5" {}
        }
    }
}

/// Columns that show their numbers when the pointer rests on them.
fn rests(chart: &Chart, x: &Axis, up: [f64; 2]) -> Markup {
    if chart.x == Scale::Unit {
        return html! {};
    }
    let longest = chart.series.iter().max_by_key(|s| s.points.len());
    let Some(longest) = longest.filter(|s| s.points.len() > 1) else {
        return html! {};
    };
    let every = longest.points.len().div_ceil(MOST_RESTS);
    let places: Vec<(f64, f64)> = longest
        .points
        .iter()
        .step_by(every)
        .filter_map(|p| Some((p.0, x.place(p.0)?)))
        .collect();
    let half = (WIDTH - RIGHT - LEFT) / (2 * places.len().max(1)) as f64;
    html! {
        @for (value, at) in places {
            g.rest {
                rect x=(fixed(at - half)) y=(up[1]) width=(fixed(2.0 * half)) height=(up[0] - up[1]) {}
                line x1=(fixed(at)) x2=(fixed(at)) y1=(up[0]) y2=(up[1]) {}
                text x=(LEFT + 6.0) y=(up[1] + 10.0) { (numbers(chart, value)) }
            }
        }
    }
}

/// `epoch 3: training 0.42, validation 0.4`
fn numbers(chart: &Chart, at: f64) -> String {
    let value = |v: f64| match chart.y {
        Scale::Percent => format!("{:.2} %", 100.0 * v),
        _ => number::plain(v),
    };
    let parts: Vec<String> = chart
        .series
        .iter()
        .filter_map(|s| {
            let point = s.points.iter().find(|p| p.0 == at && p.1.is_finite())?;
            Some(format!("{} {}", s.name, value(point.1)))
        })
        .take(4)
        .collect();
    format!(
        "{} {}: {}",
        chart.x_label,
        number::plain(at),
        parts.join(", ")
    )
}

/// What the chart shows, for those who do not see it.
fn description(chart: &Chart) -> String {
    let ends = |s: &Series| {
        let known = || s.points.iter().filter(|p| p.1.is_finite());
        let (first, last) = (known().next()?, known().next_back()?);
        Some(format!(
            "{} from {} to {}",
            s.name,
            number::plain(first.1),
            number::plain(last.1)
        ))
    };
    let parts: Vec<String> = chart.series.iter().filter_map(ends).collect();
    format!("{} by {}: {}", chart.title, chart.x_label, parts.join("; "))
}

fn fixed(value: f64) -> String {
    format!("{value:.1}")
}

/// The style of a chart in a file of its own; the page has the same in its own colours.
const ALONE: &str = "\
text{font:11.5px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:#566172}.title{font-size:14px;font-weight:600;fill:#1d2530}\
.grid,.rest line{stroke:#dde2e9}.diagonal{stroke:#9fb0c6;stroke-dasharray:3 4}.mark{stroke:#566172;stroke-dasharray:2 3}\
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke:#2a62c9}.dot{fill:#2a62c9}\
.sq{stroke:#8a94a6;stroke-dasharray:6 3}.s1{stroke:#b4552d}.rest rect{fill:transparent}.rest line,.rest text{visibility:hidden}\
.rest:hover line,.rest:hover text{visibility:visible}\
@media(prefers-color-scheme:dark){text{fill:#9daabb}.title{fill:#e6ebf2}.grid,.rest line{stroke:#2c3541}.line{stroke:#7fadff}.dot{fill:#7fadff}\
.sq{stroke:#9daabb}.s1{stroke:#f0976c}}";

#[cfg(test)]
mod tests {
    use super::super::Tone;
    use super::*;

    #[test]
    fn lines_break_where_values_are_missing() {
        let points = vec![(1.0, 1.0), (2.0, f64::NAN), (3.0, 2.0), (4.0, 1.0)];
        let chart = Chart::new("t", "epoch", vec![Series::new("a", Tone::Main, points)]);
        let svg = chart.svg();
        let d = svg
            .split(" d=\"")
            .nth(2)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        assert_eq!(d.matches('M').count(), 2, "{d}");
        assert_eq!(d.matches('L').count(), 1, "{d}");
        assert!(!svg.contains("NaN"), "{svg}");
        assert!(svg.contains("epoch 3: a 2"), "{svg}");
        assert!(svg.contains("t by epoch: a from 1 to 1"), "{svg}");
    }

    #[test]
    fn names_are_escaped() {
        let series = Series::new("<script>", Tone::Number(9), vec![(0.0, 1.0), (1.0, 2.0)]);
        let svg = Chart::new("a\"b", "<x>", vec![series]).svg();
        assert!(!svg.contains("<script>") && !svg.contains("<x>"), "{svg}");
        assert!(svg.contains("a&quot;b by &lt;x&gt;"), "{svg}");
    }

    #[test]
    fn nothing_to_draw_is_no_crash() {
        assert!(Chart::default().is_empty());
        assert!(Chart::default().svg().starts_with("<svg"));
        let lone = Series::new("a", Tone::Main, vec![(1.0, 0.5)]);
        let svg = Chart::new("t", "epoch", vec![lone]).svg();
        assert!(svg.contains("<circle"), "{svg}");
    }
}
