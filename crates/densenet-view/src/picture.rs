//! The architecture as a still picture: the same river of channels as on the page.
//!
//! The river's thickness is the square root of the number of channels, so that 64 stay in sight beside 2688. A dense
//! block is a staircase with a step for each layer, a transition a narrowing; squares (cubes for volumes) below stand for
//! the maps' sizes. Colours follow the reader's preference for light or dark.

use densenet_spec::{Architecture, Stage, StageKind, Trace};

use crate::{ViewError, page::escape};

/// Lengths of the stages along the picture.
const INPUT: f64 = 74.0;
const STEM: f64 = 88.0;
const BLOCK: f64 = 128.0;
const TRANSITION: f64 = 66.0;
const NORM: f64 = 58.0;
const CLASSIFIER: f64 = 104.0;
const MARGIN: f64 = 10.0;

const TITLE_Y: f64 = 22.0;
const RIVER_Y: f64 = 138.0;
const THICKEST: f64 = 96.0;
const THINNEST: f64 = 5.0;
const HEIGHT: f64 = 286.0;
/// The side of the square that stands for the input.
const LARGEST_MAP: f64 = 30.0;

const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:#1d2530;font-size:13px;text-anchor:middle}\
.title{font-size:15px;font-weight:600;text-anchor:start}.facts{text-anchor:start}\
.name{font-weight:600}.sub,.facts{fill:#566172;font-size:12px}\
.river{fill:#c3cedd}.block{fill:#2a62c9;fill-opacity:.78}.step{fill:none;stroke:#fff;stroke-opacity:.75}\
.map{fill:none;stroke:#566172;stroke-width:1.2}\
@media(prefers-color-scheme:dark){text{fill:#e6ebf2}.sub,.facts{fill:#9daabb}.river{fill:#42516a}\
.block{fill:#7fadff}.step{stroke:#12161c}.map{stroke:#9daabb}}";

/// The network called `name` as an SVG file, for an input of `[depth, height, width]`.
///
/// # Errors
/// The input is too small for the network.
pub fn svg(
    name: &str,
    architecture: &Architecture,
    spatial: [usize; 3],
) -> Result<String, ViewError> {
    let trace = architecture.trace(spatial)?;
    let mut canvas = Canvas::new(architecture, &trace);
    canvas.input();
    for index in 0..architecture.stages().len() {
        canvas.stage(index);
    }
    let width = canvas.x + MARGIN;
    let facts = format!(
        "{} parameters, {} multiply-adds, growth rate {}",
        short(architecture.num_parameters() as f64),
        short(trace.macs() as f64),
        architecture.config().growth_rate
    );
    let name = escape(name);
    let label = format!("{name}: {facts}");
    let facts_y = TITLE_Y + 19.0;
    let body = canvas.parts.join("\n");
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {HEIGHT}\" role=\"img\" \
         aria-label=\"{label}\">\n<title>{label}</title>\n<style>{STYLE}</style>\n\
         <text class=\"title\" x=\"{MARGIN}\" y=\"{TITLE_Y}\">{name}</text>\n\
         <text class=\"facts\" x=\"{MARGIN}\" y=\"{facts_y}\">{facts}</text>\n{body}\n</svg>\n"
    ))
}

struct Canvas<'a> {
    architecture: &'a Architecture,
    trace: &'a Trace,
    /// The widest point of the river.
    most: f64,
    /// Where the next stage begins.
    x: f64,
    parts: Vec<String>,
}

impl<'a> Canvas<'a> {
    fn new(architecture: &'a Architecture, trace: &'a Trace) -> Self {
        let features = architecture.blocks().iter().map(|block| block.c_out);
        Canvas {
            architecture,
            trace,
            most: features.max().unwrap_or(1) as f64,
            x: MARGIN,
            parts: Vec::new(),
        }
    }

    fn thickness(&self, channels: usize) -> f64 {
        (THICKEST * (channels as f64 / self.most).sqrt()).max(THINNEST)
    }

    fn input(&mut self) {
        let channels = self.architecture.config().in_channels;
        let half = self.thickness(channels) / 2.0;
        self.river("river", &[(INPUT - 22.0, half), (INPUT, half)]);
        let unit = if channels == 1 { "channel" } else { "channels" };
        let lines = [format!("{channels} {unit}"), self.space(self.trace.input)];
        self.labels("input", None, INPUT, &lines, Some(self.trace.input));
        self.x += INPUT;
    }

    fn stage(&mut self, index: usize) {
        let stage = &self.architecture.stages()[index];
        let output = self.trace.layers[self.architecture.stage_output(index)].spatial;
        let (before, after) = (
            self.thickness(stage.c_in) / 2.0,
            self.thickness(stage.c_out) / 2.0,
        );
        let (length, name, above) = match stage.kind {
            StageKind::Stem => (STEM, "stem".to_string(), None),
            StageKind::DenseBlock(block) => {
                let layers = self.architecture.blocks()[block].layers.len();
                let plural = if layers == 1 { "" } else { "s" };
                let above = format!("{layers} layer{plural}");
                (BLOCK, format!("dense block {}", block + 1), Some(above))
            }
            StageKind::Transition(_) => (TRANSITION, "transition".to_string(), None),
            StageKind::FinalNorm => (NORM, "norm".to_string(), None),
            StageKind::Classifier => (CLASSIFIER, "classifier".to_string(), None),
        };
        match stage.kind {
            StageKind::DenseBlock(block) => self.staircase(block, length),
            StageKind::Classifier => {
                let points = [(0.0, before), (length * 0.34, 5.0), (length - 14.0, 5.0)];
                self.river("river", &points);
            }
            _ => {
                let points = [
                    (0.0, before),
                    (length * 0.3, before),
                    (length * 0.7, after),
                    (length, after),
                ];
                self.river("river", &points);
            }
        }
        let (lines, space) = self.below(stage, output);
        self.labels(&name, above.as_deref(), length, &lines, space);
        self.x += length;
    }

    fn below(&self, stage: &Stage, output: [usize; 3]) -> ([String; 2], Option<[usize; 3]>) {
        if stage.kind == StageKind::Classifier {
            let plural = if stage.c_out == 1 { "class" } else { "classes" };
            return ([format!("{} {plural}", stage.c_out), String::new()], None);
        }
        ([stage.c_out.to_string(), self.space(output)], Some(output))
    }

    /// A step for each layer, `growth_rate` channels high.
    fn staircase(&mut self, block: usize, length: f64) {
        let block = &self.architecture.blocks()[block];
        let count = block.layers.len();
        let (start, end) = (10.0, length - 10.0);
        let mut points = vec![(0.0, self.thickness(block.c_in) / 2.0)];
        let mut steps = String::new();
        for (number, layer) in block.layers.iter().enumerate() {
            let x = start + (end - start) * (number as f64 + 0.5) / count as f64;
            let before = self.thickness(layer.c_in) / 2.0;
            let after = self.thickness(layer.c_in + layer.growth_rate) / 2.0;
            points.extend([(x, before), (x, after)]);
            // Beyond this the lines would cover the steps.
            if count <= MOST_STEPS {
                let (x, y) = (self.x + x, RIVER_Y - after);
                steps.push_str(&format!("M{x:.1} {y:.1}v{:.1}", 2.0 * after));
            }
        }
        points.push((length, self.thickness(block.c_out) / 2.0));
        self.river("block", &points);
        if !steps.is_empty() {
            self.parts
                .push(format!("<path class=\"step\" d=\"{steps}\"/>"));
        }
    }

    /// A part of the river through points of (distance, half its thickness).
    fn river(&mut self, class: &str, points: &[(f64, f64)]) {
        let upper = points.iter().map(|&(x, half)| (x, -half));
        let lower = points.iter().rev().copied();
        let place = |(x, y): (f64, f64)| format!("{:.1} {:.1}", self.x + x, RIVER_Y + y);
        let all: Vec<String> = upper.chain(lower).map(place).collect();
        self.parts.push(format!(
            "<path class=\"{class}\" d=\"M{}Z\"/>",
            all.join("L")
        ));
    }

    fn labels(
        &mut self,
        name: &str,
        above: Option<&str>,
        length: f64,
        below: &[String; 2],
        space: Option<[usize; 3]>,
    ) {
        let x = self.x + length / 2.0;
        let mut text = |class: &str, y: f64, text: &str| {
            if !text.is_empty() {
                self.parts.push(format!(
                    "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y}\">{text}</text>"
                ));
            }
        };
        let top = RIVER_Y - THICKEST / 2.0;
        text("name", top - 26.0, name);
        text("sub", top - 11.0, above.unwrap_or_default());
        let bottom = RIVER_Y + THICKEST / 2.0;
        text("sub", bottom + 20.0, &below[0]);
        text("sub", bottom + 35.0, &below[1]);
        if let Some(space) = space {
            self.map(x, bottom + 64.0, space);
        }
    }

    /// A square, or a cube for volumes, whose side is the square root of the map's.
    fn map(&mut self, x: f64, y: f64, space: [usize; 3]) {
        let largest = |sizes: [usize; 3]| sizes.into_iter().max().unwrap_or(1) as f64;
        let share = largest(space) / largest(self.trace.input);
        let side = (LARGEST_MAP * share.sqrt()).max(2.5);
        let (left, top) = (x - side / 2.0, y - side / 2.0);
        let mut path = format!("M{left:.1} {top:.1}h{side:.1}v{side:.1}h-{side:.1}Z");
        if self.architecture.config().spatial_dims == 3 {
            let shift = (side * 0.22).max(1.5);
            path += &format!(
                "l{shift:.1} -{shift:.1}h{side:.1}v{side:.1}l-{shift:.1} {shift:.1}m0 -{side:.1}l{shift:.1} -{shift:.1}"
            );
        }
        self.parts
            .push(format!("<path class=\"map\" d=\"{path}\"/>"));
    }

    /// `56×56` or `24×24×24`
    fn space(&self, sizes: [usize; 3]) -> String {
        let axes = &sizes[3 - self.architecture.config().spatial_dims..];
        let axes: Vec<String> = axes.iter().map(usize::to_string).collect();
        axes.join("×")
    }
}

const MOST_STEPS: usize = 40;

/// `7978856` as `7.98 M`.
fn short(mut value: f64) -> String {
    let units = ["", " k", " M", " G", " T", " P"];
    let mut unit = 0;
    // 999.5 would be shown as 1000.
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use densenet_spec::{PRESETS, preset};

    #[test]
    fn every_preset_has_a_picture() {
        for preset in PRESETS {
            for (dims, spatial) in [(2, [1, 224, 224]), (3, [96; 3])] {
                let architecture = Architecture::new(&preset.config(dims).unwrap()).unwrap();
                let picture = svg(preset.name, &architecture, spatial).unwrap();
                assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
                assert!(!picture.contains("NaN") && !picture.contains("inf"));
                assert_eq!(
                    picture.matches("class=\"block\"").count(),
                    architecture.blocks().len()
                );
            }
        }
    }

    #[test]
    fn it_tells_shapes_and_totals() {
        let config = preset("densenet121").unwrap().config(2).unwrap();
        let architecture = Architecture::new(&config).unwrap();
        let picture = svg("a <b> & \"c\"", &architecture, [1, 224, 224]).unwrap();
        for part in [
            ">dense block 3<",
            ">24 layers<",
            ">14×14<",
            ">1000 classes<",
            "7.98 M parameters, 2.83 G",
        ] {
            assert!(picture.contains(part), "{part}");
        }
        assert!(picture.contains("a &lt;b&gt; &amp; &quot;c&quot;"));
        assert!(svg("x", &architecture, [1, 8, 8]).is_err());
    }
}
