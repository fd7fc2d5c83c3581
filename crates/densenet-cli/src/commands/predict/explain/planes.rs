//! Maps over volumes: three planes through the place of the strongest evidence, plain and with the map laid over.

use densenet_data::{
    DecodedImage, Samples, Space,
    volume::{Grid, carry},
};

use super::{
    Sheet,
    canvas::{Canvas, Font, GAP, HEAD, Panel},
    colours::Rgb,
};

/// Pixels of the scan's longest side.
const LONGEST: f64 = 300.0;
const CROSS: Rgb = [90, 170, 255];
const LETTERS: Rgb = [250, 220, 110];

/// One of the planes: which directions run along columns and rows, and against which.
struct Plane {
    columns: (usize, f64),
    rows: (usize, f64),
    /// At the left, right, top and bottom.
    letters: [&'static str; 4],
}

/// As doctors look at them: the patient's right on the left, the front and the head up.
const BODY: [Plane; 3] = [
    Plane {
        columns: (0, -1.0),
        rows: (1, -1.0),
        letters: ["R", "L", "A", "P"],
    },
    Plane {
        columns: (0, -1.0),
        rows: (2, -1.0),
        letters: ["R", "L", "S", "I"],
    },
    Plane {
        columns: (1, -1.0),
        rows: (2, -1.0),
        letters: ["A", "P", "S", "I"],
    },
];

/// An array that says nothing about the body, as it lies in memory.
const ARRAY: [Plane; 3] = [
    Plane {
        columns: (0, 1.0),
        rows: (1, 1.0),
        letters: [""; 4],
    },
    Plane {
        columns: (0, 1.0),
        rows: (2, 1.0),
        letters: [""; 4],
    },
    Plane {
        columns: (1, 1.0),
        rows: (2, 1.0),
        letters: [""; 4],
    },
];

/// The scan on `own` with the map on `from`; nothing where either has no place.
pub fn draw(
    (image, own): (&DecodedImage, &Grid),
    (map, from): (&[f32], &Grid),
    sheet: &Sheet,
) -> Option<Canvas> {
    let volume = first_channel(image);
    let window = window(&volume);
    let focus = strongest(map, from);
    let (low, high) = bounds(own);
    let longest = (0..3).fold(0.0f64, |m, i| m.max(high[i] - low[i]));
    let pixel = (longest / LONGEST).max(f64::MIN_POSITIVE);
    let planes = if own.space == Space::UNKNOWN {
        &ARRAY
    } else {
        &BODY
    };
    let mut panels = Vec::with_capacity(planes.len());
    for plane in planes {
        let grid = plane.grid(focus, (low, high), pixel);
        let scan = carry(&volume, own, &grid, f32::NAN)?;
        let values = carry(map, from, &grid, 0.0)?;
        let grey = |v: &f32| {
            let share = (v - window[0]) / (window[1] - window[0]);
            // Beyond the scan, black.
            [(255.0 * share).clamp(0.0, 255.0) as u8; 3]
        };
        let plain: Vec<Rgb> = scan.iter().map(grey).collect();
        let over = plain.iter().zip(&values);
        let over = over.map(|(&pixel, &value)| sheet.scale.over(value, pixel));
        let [_, height, width] = grid.spatial;
        panels.push([
            Panel {
                width,
                height,
                pixels: over.collect(),
            },
            Panel {
                width,
                height,
                pixels: plain,
            },
        ]);
    }
    let width: usize = panels.iter().map(|[p, _]| p.width + GAP).sum();
    let row = panels.iter().map(|[p, _]| p.height).max().unwrap_or(0);
    let mut canvas = Canvas::sheet([width - GAP, 2 * row + GAP], sheet);
    let mut left = GAP;
    for (plane, [over, plain]) in planes.iter().zip(&panels) {
        for (i, panel) in [over, plain].into_iter().enumerate() {
            let corner = [left, HEAD + GAP + i * (row + GAP)];
            canvas.put(corner, panel);
            if i == 1 {
                plane.cross(&mut canvas, corner, panel, (focus, low, high), pixel);
            }
            plane.name(&mut canvas, corner, panel);
        }
        left += over.width + GAP;
    }
    Some(canvas)
}

impl Plane {
    /// The pixels of the plane through `focus` that covers the box from `low` to `high`.
    fn grid(&self, focus: [f64; 3], (low, high): ([f64; 3], [f64; 3]), pixel: f64) -> Grid {
        let sides = [self.rows, self.columns];
        let size = sides.map(|(axis, _)| ((high[axis] - low[axis]) / pixel).round().max(1.0));
        let mut affine = [[0.0; 4]; 3];
        (0..3).for_each(|axis| affine[axis][3] = focus[axis]);
        for (column, (axis, sign)) in [self.columns, self.rows].into_iter().enumerate() {
            affine[axis][column] = sign * pixel;
            let start = if sign > 0.0 { low[axis] } else { high[axis] };
            affine[axis][3] = start + 0.5 * sign * pixel;
        }
        let across = 3 - self.columns.0 - self.rows.0;
        affine[across][2] = pixel;
        Grid {
            spatial: [1, size[0] as usize, size[1] as usize],
            space: Space { affine },
        }
    }

    /// Where the other two planes cut this one.
    fn cross(
        &self,
        canvas: &mut Canvas,
        [left, top]: [usize; 2],
        panel: &Panel,
        (focus, low, high): ([f64; 3], [f64; 3], [f64; 3]),
        pixel: f64,
    ) {
        let at = |(axis, sign): (usize, f64)| {
            let from = if sign > 0.0 {
                focus[axis] - low[axis]
            } else {
                high[axis] - focus[axis]
            };
            (from / pixel).max(0.0) as usize
        };
        let (x, y) = (at(self.columns), at(self.rows));
        // Dotted, and not over the place itself.
        let dotted = |i: usize, middle: usize| i % 4 < 2 && i.abs_diff(middle) > 8;
        for i in (0..panel.width).filter(|&i| y < panel.height && dotted(i, x)) {
            canvas.set([left + i, top + y], CROSS);
        }
        for i in (0..panel.height).filter(|&i| x < panel.width && dotted(i, y)) {
            canvas.set([left + x, top + i], CROSS);
        }
    }

    /// The letters at the borders.
    fn name(&self, canvas: &mut Canvas, [left, top]: [usize; 2], panel: &Panel) {
        let (w, h) = (panel.width, panel.height);
        let places = [
            [left + 3, top + h / 2 - 6.min(h / 2)],
            [left + w - 10.min(w), top + h / 2 - 6.min(h / 2)],
            [left + w / 2 - 3.min(w / 2), top + 2],
            [left + w / 2 - 3.min(w / 2), top + h - 15.min(h)],
        ];
        for (letter, place) in self.letters.iter().zip(places) {
            canvas.edged_text(place, letter, Font::Small, LETTERS);
        }
    }
}

/// The box along the body's axes that holds the scan with all of its outer voxels.
fn bounds(grid: &Grid) -> ([f64; 3], [f64; 3]) {
    let (mut low, mut high) = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
    for corner in 0..8 {
        let at: [f64; 3] = std::array::from_fn(|axis| match corner >> axis & 1 {
            0 => -0.5,
            _ => grid.spatial[axis] as f64 - 0.5,
        });
        for (axis, v) in grid.space.place(at).into_iter().enumerate() {
            low[axis] = low[axis].min(v);
            high[axis] = high[axis].max(v);
        }
    }
    (low, high)
}

/// The place of the largest value, in millimetres.
fn strongest(map: &[f32], grid: &Grid) -> [f64; 3] {
    let mut best = 0;
    for (i, v) in map.iter().enumerate() {
        if *v > map[best] {
            best = i;
        }
    }
    let [_, height, width] = grid.spatial;
    let at = [
        best / (height * width).max(1),
        best / width.max(1) % height.max(1),
        best % width.max(1),
    ];
    grid.space.place(at.map(|v| v as f64))
}

fn first_channel(image: &DecodedImage) -> Vec<f32> {
    let channels = image.channels().max(1);
    match image.samples() {
        Samples::U8(v) => v.iter().step_by(channels).map(|&s| s.into()).collect(),
        Samples::U16(v) => v.iter().step_by(channels).map(|&s| s.into()).collect(),
        Samples::F32(v) => v.iter().step_by(channels).copied().collect(),
    }
}

/// From black to white: the values' first to last hundredth, without extremes.
fn window(values: &[f32]) -> [f32; 2] {
    let step = (values.len() / 100_000).max(1);
    let finite = values
        .iter()
        .step_by(step)
        .copied()
        .filter(|v| v.is_finite());
    let mut some: Vec<f32> = finite.collect();
    some.sort_by(f32::total_cmp);
    let last = some.len().saturating_sub(1);
    let at = |share: f64| some.get((last as f64 * share).round() as usize).copied();
    match (at(0.01), at(0.99)) {
        (Some(low), Some(high)) if low < high => [low, high],
        (Some(low), _) => [low, low + 1.0],
        _ => [0.0, 1.0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_show_the_right_on_the_left() {
        let bounds = ([-10.0, 0.0, 5.0], [10.0, 30.0, 15.0]);
        let grid = BODY[0].grid([1.0, 2.0, 7.0], bounds, 1.0);
        assert_eq!(grid.spatial, [1, 30, 20]);
        // The first pixel is the patient's rightmost and foremost, at the height of the focus.
        assert_eq!(grid.space.place([0.0; 3]), [9.5, 29.5, 7.0]);
        let array = ARRAY[1].grid([1.0, 2.0, 7.0], bounds, 2.0);
        assert_eq!(array.spatial, [1, 5, 10]);
        assert_eq!(array.space.place([0.0; 3]), [-9.0, 2.0, 6.0]);
    }

    #[test]
    fn the_window_leaves_out_extremes() {
        let mut values: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        values.push(1e9);
        values.push(f32::NAN);
        let [low, high] = window(&values);
        assert!((low - 10.0).abs() < 2.0 && (high - 990.0).abs() < 2.0);
        assert_eq!(window(&[3.0, 3.0]), [3.0, 4.0]);
        assert_eq!(window(&[]), [0.0, 1.0]);
    }
}
