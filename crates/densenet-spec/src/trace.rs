//! Shapes and costs for a given input size.

use crate::{Architecture, ConfigError, Op, config::list};

/// The shape of every layer's output for one input size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The input's `[depth, height, width]`.
    pub input: [usize; 3],
    /// One entry per layer, in the order of [`Architecture::layers`].
    pub layers: Vec<LayerShape>,
    /// `(stage name, output)` in order, for [`Trace::output`].
    stages: Vec<(String, LayerShape)>,
}

/// What goes into and comes out of one layer, for one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerShape {
    /// Channels of the output.
    pub channels: usize,
    /// The input's `[depth, height, width]`.
    pub spatial_in: [usize; 3],
    /// The output's `[depth, height, width]`; `[1, 1, 1]` from the global pooling on.
    pub spatial: [usize; 3],
    /// Multiply-adds (convolutions and the classifier; 0 elsewhere).
    pub macs: u64,
}

impl Trace {
    /// The output of the stage called `name`.
    pub fn output(&self, name: &str) -> Option<LayerShape> {
        self.stages.iter().find(|(n, _)| n == name).map(|(_, s)| *s)
    }

    /// Multiply-adds of the whole network for one sample.
    pub fn macs(&self) -> u64 {
        self.layers
            .iter()
            .fold(0, |sum: u64, l| sum.saturating_add(l.macs))
    }
}

impl Architecture {
    /// Follows an input of `[depth, height, width]` through the network. Depth is 1 in 2-D.
    ///
    /// # Errors
    /// The input is too small for the poolings: names the layer, the axis and [`Architecture::min_input`].
    pub fn trace(&self, input: [usize; 3]) -> Result<Trace, ConfigError> {
        let dims = self.config.spatial_dims;
        let shown = || list(&input[3 - dims..]).replace(',', "x");
        if dims == 2 && input[0] != 1 {
            let reason = "a 2-D network takes images of depth 1";
            return Err(ConfigError::new("input", list(&input), reason));
        }
        if input.iter().any(|&s| s > MAX_SIDE) {
            let reason = format!("the largest side supported is {MAX_SIDE}");
            return Err(ConfigError::new("input", shown(), reason));
        }
        let mut layers: Vec<LayerShape> = Vec::with_capacity(self.layers.len());
        let mut spatial = input;
        for layer in &self.layers {
            let spatial_in = spatial;
            if let Some(window) = layer.op.window() {
                spatial = window.output(spatial_in).map_err(|axis| {
                    let min = self.min_input();
                    ConfigError::new(
                        "input",
                        shown(),
                        format!(
                            "too small: at {} only {} pixels are left along the {}; the smallest input that works is {}",
                            layer.name,
                            spatial_in[axis],
                            ["depth", "height", "width"][axis],
                            list(&min[3 - dims..]).replace(',', "x"),
                        ),
                    )
                })?;
            }
            if layer.op == Op::GlobalAvgPool {
                spatial = [1; 3];
            }
            let pixels: u64 = spatial.iter().map(|&s| s as u64).product();
            let per_pixel = (layer.c_in * layer.c_out) as u64;
            let macs = match layer.op {
                Op::Conv(window) => pixels
                    .saturating_mul(per_pixel)
                    .saturating_mul(window.taps() as u64),
                Op::Linear => per_pixel,
                _ => 0,
            };
            layers.push(LayerShape {
                channels: layer.c_out,
                spatial_in,
                spatial,
                macs,
            });
        }
        let stages = (0..self.stages.len())
            .map(|s| (self.stages[s].name.clone(), layers[self.stage_output(s)]))
            .collect();
        Ok(Trace {
            input,
            layers,
            stages,
        })
    }

    /// The smallest input along `[depth, height, width]` that every window fits into.
    ///
    /// The axes do not influence each other, and a larger input never shrinks a map, so each axis is searched alone,
    /// backwards: the smallest input of a window whose output must be at least `n`.
    pub fn min_input(&self) -> [usize; 3] {
        let mut needed = [1usize; 3];
        for window in self.layers.iter().rev().filter_map(|l| l.op.window()) {
            for (axis, need) in needed.iter_mut().enumerate() {
                let span = (*need - 1) * window.stride[axis] + window.kernel[axis];
                *need = span.saturating_sub(2 * window.padding[axis]).max(1);
            }
        }
        needed
    }
}

/// Keeps `pixels · channels²` far from overflow.
const MAX_SIDE: usize = 1 << 16;
