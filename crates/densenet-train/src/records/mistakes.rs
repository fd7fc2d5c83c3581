//! The most confident mistakes: how the samples look, and where the evidence lies.

use densenet::{
    Input, Predictor,
    explain::{ClassActivation, Map},
};
use densenet_data::{Prepared, Preprocessing, Scale};
use densenet_report::{Evidence, Mistake, picture};

use super::{Findings, HeldOut};
use crate::{evaluate::preprocessing_of, spec::Architecture, weights::Model};

/// Mistakes that are shown.
const MOST: usize = 12;
/// Pictures are shown with at most this many pixels a side.
const LARGEST: usize = 192;
/// Maps vary slowly: more pixels a side would show nothing more.
const LARGEST_MAP: usize = 48;

/// Where a wrong answer stands.
struct Wrong {
    row: usize,
    index: usize,
    label: u32,
    answer: u32,
    probability: f32,
}

/// The most confident mistakes, likeliest first, and the number of all.
pub(super) fn of(findings: &Findings<'_>, held_out: &HeldOut) -> (Vec<Mistake>, u64) {
    let evaluation = &held_out.assessment.evaluation;
    let classes = evaluation.classes.len();
    let probability = |row: usize, class: u32| {
        let place = row * classes + class as usize;
        evaluation.probabilities.get(place).copied().unwrap_or(0.0)
    };
    let answers = evaluation.labels.iter().zip(&evaluation.answers);
    let mut wrong: Vec<Wrong> = answers
        .zip(&evaluation.indices)
        .enumerate()
        .filter(|(_, ((label, answer), _))| label != answer)
        .map(|(row, ((&label, &answer), &index))| Wrong {
            row,
            index,
            label,
            answer,
            probability: probability(row, answer),
        })
        .collect();
    let total = wrong.len() as u64;
    wrong.sort_by(|a, b| {
        b.probability
            .total_cmp(&a.probability)
            .then(a.row.cmp(&b.row))
    });
    wrong.truncate(MOST);
    let architecture = Architecture::new(&findings.model.config).ok();
    let architecture = architecture.filter(|_| held_out.explained);
    let explainer = architecture
        .as_ref()
        .and_then(|a| Explainer::new(a, findings.model));
    let name = |class: u32| {
        let name = evaluation.classes.get(class as usize);
        name.cloned().unwrap_or_default()
    };
    let mistakes = wrong.iter().map(|w| Mistake {
        name: findings.dataset.describe(w.index),
        truth: (name(w.label), f64::from(probability(w.row, w.label))),
        answer: (name(w.answer), f64::from(w.probability)),
        // A picture that cannot be made, of a file that has gone meanwhile, leaves the text.
        evidence: explainer
            .as_ref()
            .and_then(|e| e.evidence(findings, w))
            .unwrap_or_default(),
    });
    (mistakes.collect(), total)
}

/// The network that is asked where it looks.
struct Explainer<'a> {
    predictor: Predictor,
    head: ClassActivation<'a>,
    preprocessing: Preprocessing,
}

impl<'a> Explainer<'a> {
    /// `None` for a model that cannot be run, which has not answered either.
    fn new(architecture: &'a Architecture, model: &'a Model) -> Option<Self> {
        Some(Explainer {
            predictor: Predictor::new(&model.config, &model.state).ok()?,
            head: ClassActivation::new(architecture, &model.state).ok()?,
            preprocessing: preprocessing_of(model).ok()?,
        })
    }

    fn evidence(&self, findings: &Findings<'_>, wrong: &Wrong) -> Option<Vec<Evidence>> {
        let image = findings.dataset.decode(wrong.index).ok()?;
        let prepared = self.preprocessing.apply(&image).ok()?;
        let input = Input {
            data: &prepared.data,
            batch: 1,
            spatial: prepared.spatial,
        };
        let output = self.predictor.run_with_taps(input, &[self.head.layer()]);
        let output = output.ok()?;
        let map = |class: u32| {
            let features = output.taps.first()?;
            let map = self.head.map(features, 0, class as usize).ok()?;
            Some(map.resized(prepared.spatial.map(|side| side.min(LARGEST_MAP))))
        };
        let maps = [map(wrong.answer), map(wrong.label)];
        let known = maps.iter().flatten();
        let strongest = known.map(|m| m.range()[1]).fold(0.0, f32::max);
        let grey = Shown::new(&prepared, &self.preprocessing);
        let shown = planes(&prepared)
            .into_iter()
            .filter_map(|plane| {
                let overlay =
                    |map: &Option<Map>| map.as_ref().and_then(|m| heat(m, &plane, strongest));
                Some(Evidence {
                    plane: plane.name.to_string(),
                    size: plane.size(&prepared),
                    picture: grey.picture(&plane)?,
                    answer: overlay(&maps[0]),
                    truth: overlay(&maps[1]),
                })
            })
            .collect();
        Some(shown)
    }
}

/// Three planes through the middle of a volume; all of an image.
struct Plane {
    name: &'static str,
    /// The axis that stands still, of `[depth, height, width]`.
    still: usize,
    /// Whether rows run upwards in the picture.
    upwards: bool,
}

fn planes(prepared: &Prepared) -> Vec<Plane> {
    let plane = |name, still, upwards| Plane {
        name,
        still,
        upwards,
    };
    match prepared.spatial {
        [1, _, _] => vec![plane("", 0, false)],
        // Width to the right, height to the front, depth upwards: the front and the top belong above.
        _ if prepared.space.is_some() => vec![
            plane("axial", 0, true),
            plane("coronal", 1, true),
            plane("sagittal", 2, true),
        ],
        _ => vec![
            plane("depth", 0, false),
            plane("height", 1, false),
            plane("width", 2, false),
        ],
    }
}

impl Plane {
    /// The axes of rows and columns.
    fn axes(&self) -> [usize; 2] {
        match self.still {
            0 => [1, 2],
            1 => [0, 2],
            _ => [0, 1],
        }
    }

    /// Width and height in proportion: by millimetres, where they are known.
    fn size(&self, prepared: &Prepared) -> [usize; 2] {
        let spacing = prepared.space.map_or([1.0; 3], |space| space.spacing());
        let [rows, columns] = self.axes().map(|a| prepared.spatial[a] as f64 * spacing[a]);
        let scale = if self.still == 0 && prepared.spatial[0] == 1 {
            1.0
        } else {
            // Millimetres may be fractions; proportions are what counts.
            100.0 / rows.max(columns).max(1e-9)
        };
        [columns, rows].map(|side| (side * scale).round().max(1.0) as usize)
    }

    /// Positions in an array of `spatial` along the middle of the plane, row by row.
    fn positions(&self, spatial: [usize; 3]) -> (usize, usize, Vec<usize>) {
        let [row_axis, column_axis] = self.axes();
        let (rows, columns) = (spatial[row_axis], spatial[column_axis]);
        let mut place = [0; 3];
        place[self.still] = spatial[self.still] / 2;
        let mut positions = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            place[row_axis] = if self.upwards { rows - 1 - row } else { row };
            for column in 0..columns {
                place[column_axis] = column;
                positions.push((place[0] * spatial[1] + place[1]) * spatial[2] + place[2]);
            }
        }
        (rows, columns, positions)
    }
}

/// A prepared sample's numbers as brightness.
struct Shown<'a> {
    prepared: &'a Prepared,
    /// `value · factor + offset` is 0 to 255, for each channel.
    window: Vec<(f32, f32)>,
}

impl<'a> Shown<'a> {
    fn new(prepared: &'a Prepared, preprocessing: &Preprocessing) -> Self {
        let plain = preprocessing.volume.is_none() && preprocessing.scale == Scale::Unit;
        let inside = |i: usize| {
            let (mean, std) = (preprocessing.mean.get(i), preprocessing.std.get(i));
            mean.zip(std)
                .map(|(&mean, &std)| (255.0 * std, 255.0 * mean))
        };
        let window = (0..prepared.channels)
            .map(|channel| match inside(channel) {
                // 0 to 1 is what the file had.
                Some(window) if plain => window,
                _ => spread(prepared, channel),
            })
            .collect();
        Shown { prepared, window }
    }

    /// The plane as a PNG's address.
    fn picture(&self, plane: &Plane) -> Option<String> {
        let (rows, columns, positions) = plane.positions(self.prepared.spatial);
        let channels = if self.prepared.channels == 3 { 3 } else { 1 };
        let every = rows.max(columns).div_ceil(LARGEST).max(1);
        let (height, width) = (rows.div_ceil(every), columns.div_ceil(every));
        let mut pixels = Vec::with_capacity(height * width * channels);
        for row in 0..height {
            for column in 0..width {
                for channel in 0..channels {
                    let (mut sum, mut count) = (0.0, 0.0);
                    for y in row * every..((row + 1) * every).min(rows) {
                        for x in column * every..((column + 1) * every).min(columns) {
                            let at = positions.get(y * columns + x)? * self.prepared.channels;
                            sum += *self.prepared.data.get(at + channel)?;
                            count += 1.0;
                        }
                    }
                    let (factor, offset) = self.window.get(channel)?;
                    let value = sum / count * factor + offset;
                    // A number that is none becomes black.
                    pixels.push(value.round().clamp(0.0, 255.0) as u8);
                }
            }
        }
        let pixels = match channels {
            3 => picture::Pixels::Rgb(&pixels),
            _ => picture::Pixels::Grey(&pixels),
        };
        picture::data_uri(width, height, pixels)
    }
}

/// The window that spreads all but the outermost hundredths of a channel over black to white.
fn spread(prepared: &Prepared, channel: usize) -> (f32, f32) {
    let values = prepared.data.iter().skip(channel);
    let mut values: Vec<f32> = values
        .step_by(prepared.channels.max(1))
        .copied()
        .filter(|v| v.is_finite())
        .collect();
    values.sort_by(f32::total_cmp);
    let at = |share: f64| {
        let place = share * values.len().saturating_sub(1) as f64;
        values.get(place as usize).copied().unwrap_or(0.0)
    };
    let (low, high) = (at(0.005), at(0.995));
    let factor = if high > low {
        255.0 / (high - low)
    } else {
        0.0
    };
    (factor, -low * factor)
}

/// The map's part in the plane as a PNG's address; `None` where nothing speaks for any class.
fn heat(map: &Map, plane: &Plane, strongest: f32) -> Option<String> {
    if strongest.is_nan() || strongest <= 0.0 {
        return None;
    }
    let (rows, columns, positions) = plane.positions(map.shape);
    let mut pixels = Vec::with_capacity(4 * positions.len());
    for at in positions {
        pixels.extend(picture::heat(map.data.get(at)? / strongest));
    }
    picture::data_uri(columns, rows, picture::Pixels::Rgba(&pixels))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(spatial: [usize; 3]) -> Prepared {
        let count: usize = spatial.iter().product();
        Prepared {
            data: (0..count).map(|v| v as f32).collect(),
            spatial,
            channels: 1,
            space: None,
        }
    }

    #[test]
    fn planes_cut_through_the_middle() {
        let volume = prepared([2, 3, 4]);
        let [depth, height, width] = &planes(&volume)[..] else {
            panic!("three planes")
        };
        assert_eq!(depth.positions([2, 3, 4]).2[0], 12);
        assert_eq!(height.positions([2, 3, 4]).2, [4, 5, 6, 7, 16, 17, 18, 19]);
        assert_eq!(width.positions([2, 3, 4]).2, [2, 6, 10, 14, 18, 22]);
        assert_eq!(height.size(&volume), [100, 50]);
        let up = Plane {
            upwards: true,
            ..Plane {
                name: "",
                still: 1,
                upwards: false,
            }
        };
        assert_eq!(up.positions([2, 3, 4]).2, [16, 17, 18, 19, 4, 5, 6, 7]);
    }

    #[test]
    fn an_image_is_shown_as_the_file_had_it() {
        let mut image = prepared([1, 1, 2]);
        // 0 and 1 after (x − 0.5) / 0.25.
        image.data = vec![-2.0, 2.0];
        let mut preprocessing = Preprocessing::plain(1);
        (preprocessing.mean, preprocessing.std) = (vec![0.5], vec![0.25]);
        assert_eq!(Shown::new(&image, &preprocessing).window, [(63.75, 127.5)]);
        let plane = &planes(&image)[0];
        assert!(Shown::new(&image, &preprocessing).picture(plane).is_some());
        assert_eq!(plane.size(&image), [2, 1]);
    }

    #[test]
    fn constant_or_broken_values_make_no_crash() {
        for value in [0.0, f32::NAN, f32::INFINITY] {
            let mut volume = prepared([2, 2, 2]);
            volume.data.fill(value);
            let shown = Shown::new(&volume, &Preprocessing::of_volumes(1));
            assert!(shown.picture(&planes(&volume)[0]).is_some());
        }
        let map = Map {
            shape: [1, 1, 2],
            data: vec![f32::NAN, -1.0],
        };
        assert_eq!(heat(&map, &planes(&prepared([1, 1, 2]))[0], 0.0), None);
        assert!(heat(&map, &planes(&prepared([1, 1, 2]))[0], 1.0).is_some());
    }
}
