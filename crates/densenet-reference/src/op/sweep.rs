//! Which pixel of the input a window's tap meets: the index arithmetic of convolutions and poolings, once.

use std::ops::Range;

use densenet_spec::Window;

/// One tap of a window meeting one row of the output: the input pixel for the i-th pixel of `output` is
/// `input + i · step`.
///
/// Output pixels for which the tap lies in the padding are left out, so there is no border to test for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Index of the tap, `(kd · kernel_height + kh) · kernel_width + kw`.
    pub tap: usize,
    /// The pixels of the output map, part of one row.
    pub output: Range<usize>,
    /// The input map's pixel that the first of them meets.
    pub input: usize,
    /// Distance between the input pixels of neighbouring output pixels.
    pub step: usize,
}

impl Row {
    /// The pairs (output pixel, input pixel).
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let input = (self.input..).step_by(self.step);
        self.output.clone().zip(input)
    }
}

/// Every row that every tap of `window` meets, taps in order.
///
/// Along each axis the tap `k` at output pixel `o` reads the input pixel
///
/// ```text
/// i = o · stride + k − padding,    0 ≤ i < input size
/// ```
///
/// # Panics
/// The window does not fit into the input; [`densenet_spec::Architecture::trace`] excludes that.
pub fn sweep(window: Window, input: [usize; 3]) -> Vec<Row> {
    let output = window
        .output(input)
        .unwrap_or_else(|axis| panic!("{window:?} does not fit into {input:?} along axis {axis}"));
    let [kd, kh, kw] = window.kernel;
    // The outputs along `axis` for which tap k lies inside the input.
    let inside = |axis: usize, k: usize| {
        let (stride, padding) = (window.stride[axis], window.padding[axis]);
        let first = padding.saturating_sub(k).div_ceil(stride);
        let end = (input[axis] + padding).saturating_sub(k).div_ceil(stride);
        let end = end.min(output[axis]);
        first.min(end)..end
    };
    let at = |axis: usize, o: usize, k: usize| o * window.stride[axis] + k - window.padding[axis];
    let mut rows = Vec::new();
    for (d, h, w) in
        (0..kd).flat_map(|d| (0..kh).flat_map(move |h| (0..kw).map(move |w| (d, h, w))))
    {
        let columns = inside(2, w);
        if columns.is_empty() {
            continue;
        }
        for od in inside(0, d) {
            for oh in inside(1, h) {
                let row = (od * output[1] + oh) * output[2];
                let (id, ih) = (at(0, od, d), at(1, oh, h));
                rows.push(Row {
                    tap: (d * kh + h) * kw + w,
                    output: row + columns.start..row + columns.end,
                    input: (id * input[1] + ih) * input[2] + at(2, columns.start, w),
                    step: window.stride[2],
                });
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pair found by trying all outputs and taps.
    fn brute_force(window: Window, input: [usize; 3]) -> Vec<(usize, usize, usize)> {
        let output = window.output(input).unwrap();
        let flat = |i: [usize; 3], size: [usize; 3]| (i[0] * size[1] + i[1]) * size[2] + i[2];
        let all = |size: [usize; 3]| {
            (0..size[0]).flat_map(move |d| {
                (0..size[1]).flat_map(move |h| (0..size[2]).map(move |w| [d, h, w]))
            })
        };
        let mut pairs = Vec::new();
        for k in all(window.kernel) {
            for o in all(output) {
                let i: Vec<isize> = (0..3)
                    .map(|a| (o[a] * window.stride[a] + k[a]) as isize - window.padding[a] as isize)
                    .collect();
                if (0..3).all(|a| (0..input[a] as isize).contains(&i[a])) {
                    let i = [i[0] as usize, i[1] as usize, i[2] as usize];
                    pairs.push((flat(k, window.kernel), flat(o, output), flat(i, input)));
                }
            }
        }
        pairs
    }

    #[test]
    fn meets_every_pixel_that_brute_force_meets() {
        let windows = [
            Window::POINT,
            Window::cube(2, 3, 1, 1),
            Window::cube(3, 3, 1, 1),
            Window::cube(2, 7, 2, 3),
            Window::cube(3, 3, 2, 1),
            Window::cube(2, 2, 2, 0),
            Window {
                kernel: [5, 3, 1],
                stride: [1, 3, 2],
                padding: [2, 0, 4],
            },
            Window {
                kernel: [1, 1, 1],
                stride: [2, 2, 3],
                padding: [0; 3],
            },
        ];
        for window in windows {
            for input in [[1, 1, 1], [1, 5, 6], [3, 2, 4], [4, 7, 3]] {
                if window.output(input).is_err() {
                    continue;
                }
                let rows = sweep(window, input);
                let pairs: Vec<_> = rows
                    .iter()
                    .flat_map(|row| row.pairs().map(move |(o, i)| (row.tap, o, i)))
                    .collect();
                assert_eq!(pairs, brute_force(window, input), "{window:?} on {input:?}");
            }
        }
    }
}
