//! Line charts as inline SVG.

mod axis;
mod line;
mod matrix;
mod reliability;

pub(crate) use line::{Frame, line};
pub(crate) use matrix::matrix;
pub(crate) use reliability::reliability;

/// Lines over a common axis.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chart {
    /// What is shown.
    pub title: String,
    /// What the horizontal axis counts.
    pub x_label: String,
    /// How the horizontal axis runs.
    pub x: Scale,
    /// How the vertical axis runs.
    pub y: Scale,
    /// The lines, drawn in this order.
    pub series: Vec<Series>,
    /// A place on the horizontal axis worth a mark, and its name.
    pub mark: Option<(f64, String)>,
    /// A quiet line from corner to corner: what guessing would give.
    pub diagonal: bool,
    /// What to read from it, below the chart.
    pub caption: String,
}

/// How an axis runs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Scale {
    /// From 0, or from the least value where that is far above.
    #[default]
    Linear,
    /// From 0 upwards, however close to each other the values are.
    Amount,
    /// From 0, or from the least value where that is far above, in per cent of 1.
    Percent,
    /// From 0 to 1.
    Unit,
    /// By powers of ten.
    Log,
    /// Whole numbers.
    Count,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// What it is.
    pub name: String,
    /// Its colour and dashes.
    pub tone: Tone,
    /// Points from left to right. Those that are not finite interrupt it.
    pub points: Vec<(f64, f64)>,
}

/// A line's looks; each differs from the others in dashes as well as in colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// The line that matters.
    #[default]
    Main,
    /// The line to compare it with.
    Quiet,
    /// One of many, told apart by number.
    Number(usize),
}

impl Chart {
    /// A chart with linear axes, the horizontal one counting.
    pub fn new(title: &str, x_label: &str, series: Vec<Series>) -> Self {
        Chart {
            title: title.into(),
            x_label: x_label.into(),
            x: Scale::Count,
            series,
            ..Chart::default()
        }
    }

    /// Whether there is nothing to draw.
    pub fn is_empty(&self) -> bool {
        let drawn = |s: &Series| s.points.iter().any(|p| p.0.is_finite() && p.1.is_finite());
        !self.series.iter().any(drawn)
    }

    /// The chart as an SVG file of its own.
    pub fn svg(&self) -> String {
        line(self, Frame::Alone).into_string()
    }
}

impl Series {
    /// A line through points.
    pub fn new(name: &str, tone: Tone, points: Vec<(f64, f64)>) -> Self {
        Series {
            name: name.into(),
            tone,
            points,
        }
    }
}

impl Tone {
    /// The class of its elements.
    pub(crate) fn class(self) -> String {
        match self {
            Tone::Main => "s0".into(),
            Tone::Quiet => "sq".into(),
            Tone::Number(n) => format!("s{}", n % TONES),
        }
    }
}

/// Colours there are to tell lines apart by.
pub(crate) const TONES: usize = 8;
