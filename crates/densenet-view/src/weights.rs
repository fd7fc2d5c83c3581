//! What the weights tell: statistics, the stem's kernels, and how much each layer uses each other's features.

use densenet::weights::{StateDict, Tensor};
use densenet_spec::{Architecture, physical_channels};
use serde::Serialize;

use crate::numbers::{base64, byte, short};

/// The numbers of one tensor in brief.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Statistics {
    mean: f64,
    std: f64,
    min: f64,
    max: f64,
    /// Share of exact zeros.
    zeros: f64,
    /// How many numbers fall into each of equal parts of `[min, max]`.
    histogram: Vec<u32>,
}

/// Parts of a histogram: odd, so that a symmetric distribution has a middle.
const BINS: usize = 41;

/// Mean, deviation, range and histogram. Sums are taken in f64.
pub(crate) fn statistics(data: &[f32]) -> Statistics {
    let count = data.len().max(1) as f64;
    let mean = data.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
    let square = |v: &f32| (f64::from(*v) - mean).powi(2);
    let std = (data.iter().map(square).sum::<f64>() / count).sqrt();
    let [min, max] = crate::numbers::range(data.iter().copied());
    let mut histogram = vec![0u32; if max > min { BINS } else { 1 }];
    let scale = histogram.len() as f64 / (f64::from(max) - f64::from(min));
    for &value in data {
        // The largest value belongs to the last part; where all are equal the scale is infinite and there is one part.
        let part = ((f64::from(value) - f64::from(min)) * scale) as usize;
        let last = histogram.len() - 1;
        if let Some(count) = histogram.get_mut(part.min(last)) {
            *count = count.saturating_add(1);
        }
    }
    Statistics {
        mean: short(mean),
        std: short(std),
        min: short(f64::from(min)),
        max: short(f64::from(max)),
        zeros: short(data.iter().filter(|v| **v == 0.0).count() as f64 / count),
        histogram,
    }
}

/// The stem's convolution kernels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Kernels {
    /// `[c_out, c_in, depth, height, width]` of those shown.
    shape: [usize; 5],
    /// Kernels there are.
    total: usize,
    /// In that order, a byte each: 0 is the kernel's largest absolute weight negated, 127.5 zero, 255 the largest.
    data: String,
    /// The largest absolute weight of each kernel.
    scale: Vec<f64>,
}

/// More numbers than a page can show as pictures one can look at.
const MOST_KERNEL_NUMBERS: usize = 1 << 20;

/// The stem's kernels, each scaled by its own largest weight.
pub(crate) fn kernels(architecture: &Architecture, state: &StateDict) -> Option<Kernels> {
    let config = architecture.config();
    let tensor = state.get("features.conv0.weight")?;
    let [depth, height, width] = config.stem.kernel;
    let size = config.in_channels * depth * height * width;
    let shown = config
        .num_init_features
        .min((MOST_KERNEL_NUMBERS / size.max(1)).max(1));
    let mut scale = Vec::with_capacity(shown);
    let mut bytes = Vec::with_capacity(shown * size);
    for kernel in tensor.data.chunks_exact(size.max(1)).take(shown) {
        let largest = kernel.iter().fold(0.0f32, |most, w| most.max(w.abs()));
        bytes.extend(kernel.iter().map(|&w| byte(w, [-largest, largest])));
        scale.push(short(f64::from(largest)));
    }
    Some(Kernels {
        shape: [shown, config.in_channels, depth, height, width],
        total: config.num_init_features,
        data: base64(&bytes),
        scale,
    })
}

/// For each layer of a dense block, and last for what follows the block: the mean absolute weight with which its first
/// convolution reads each source, the block's input first, then the layers before it.
///
/// # Source
/// Paper, Fig. 5: the average L1 norm of the weights between layers, normalised by the number of input feature maps.
pub(crate) fn heat(
    architecture: &Architecture,
    block: usize,
    state: &StateDict,
) -> Option<Vec<Vec<f64>>> {
    let (config, facts) = (architecture.config(), architecture.blocks().get(block)?);
    let reader = match architecture.transitions().get(block) {
        Some(transition) => format!("{}.conv.weight", transition.name),
        None => "classifier.weight".to_string(),
    };
    let readers = facts
        .layers
        .iter()
        .map(|layer| format!("{}.conv1.weight", layer.name))
        .chain([reader]);
    readers
        .enumerate()
        .map(|(done, name)| {
            let order =
                physical_channels(config.concat_order, facts.c_in, config.growth_rate, done);
            let source = |channel: usize| match channel.checked_sub(facts.c_in) {
                None => 0,
                Some(behind) => 1 + behind / config.growth_rate,
            };
            let sources: Vec<usize> = order.into_iter().map(source).collect();
            Some(mean_absolute(state.get(&name)?, &sources, done + 1))
        })
        .collect()
}

/// The mean absolute weight by the source of the input channel; `weight` is `[c_out, c_in, …]`.
fn mean_absolute(weight: &Tensor, sources: &[usize], count: usize) -> Vec<f64> {
    let c_out = weight.shape.first().copied().unwrap_or(1).max(1);
    let taps = (weight.len() / (c_out * sources.len().max(1))).max(1);
    let mut sums = vec![0.0f64; count];
    let mut numbers = vec![0usize; count];
    for (index, part) in weight.data.chunks_exact(taps).enumerate() {
        let source = sources[index % sources.len()];
        sums[source] += part.iter().map(|w| f64::from(w.abs())).sum::<f64>();
        numbers[source] += taps;
    }
    let mean = |(sum, number): (f64, usize)| short(sum / number.max(1) as f64);
    sums.into_iter().zip(numbers).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use densenet::weights::{InitMode, initialize};
    use densenet_spec::{ConcatOrder, preset};

    fn tiny(order: ConcatOrder, bn_size: usize) -> Architecture {
        let mut config = preset("densenet-bc-100-12").unwrap().config(2).unwrap();
        config.block_config = vec![3, 2];
        config.growth_rate = 4;
        config.num_init_features = 6;
        config.concat_order = order;
        config.bn_size = bn_size;
        Architecture::new(&config).unwrap()
    }

    #[test]
    fn statistics_of_known_numbers() {
        let found = statistics(&[-1.0, 0.0, 0.0, 2.0]);
        assert_eq!((found.mean, found.std), (0.25, 1.0897));
        assert_eq!((found.min, found.max, found.zeros), (-1.0, 2.0, 0.5));
        assert_eq!(found.histogram.iter().sum::<u32>(), 4);
        // Zero lies a third of the way through the range.
        assert_eq!((found.histogram[0], found.histogram[BINS / 3]), (1, 2));
        assert_eq!(found.histogram[BINS - 1], 1);
        assert_eq!(statistics(&[3.0; 5]).histogram, [5]);
    }

    #[test]
    fn the_map_of_weights_knows_the_order_of_concatenation() {
        for (order, bn_size) in [
            (ConcatOrder::OldNew, 2),
            (ConcatOrder::NewOld, 2),
            (ConcatOrder::NewOld, 0),
        ] {
            let architecture = tiny(order, bn_size);
            let mut state = initialize(&architecture, 0, InitMode::FanIn);
            // Layer 3 of the first block reads layer 2 with weight −9, everything else with 1.
            let name = "features.denseblock1.denselayer3.conv1.weight";
            let weight = state.get_mut(name).unwrap();
            let c_in = 6 + 2 * 4;
            let taps = weight.len() / weight.shape[0] / c_in;
            for (index, value) in weight.data.iter_mut().enumerate() {
                let channel = index / taps % c_in;
                let newest = match order {
                    ConcatOrder::OldNew => channel >= 10,
                    ConcatOrder::NewOld => channel < 4,
                };
                *value = if newest { -9.0 } else { 1.0 };
            }
            let heat = heat(&architecture, 0, &state).unwrap();
            assert_eq!(heat.len(), 4);
            assert_eq!(heat[2], [1.0, 1.0, 9.0], "{order:?}");
            assert_eq!(heat[3].len(), 4);
            let last = super::heat(&architecture, 1, &state).unwrap();
            assert_eq!(last.last().unwrap().len(), 3);
        }
    }

    #[test]
    fn kernels_are_bytes_around_the_middle() {
        let architecture = tiny(ConcatOrder::OldNew, 2);
        let mut state = initialize(&architecture, 0, InitMode::FanIn);
        let weight = state.get_mut("features.conv0.weight").unwrap();
        weight.data.fill(0.0);
        weight.data[0] = -2.0;
        weight.data[1] = 2.0;
        let kernels = kernels(&architecture, &state).unwrap();
        assert_eq!(kernels.shape, [6, 3, 1, 3, 3]);
        assert_eq!(kernels.scale[..2], [2.0, 0.0]);
        assert!(kernels.data.starts_with("AP+A"), "{}", kernels.data);
    }
}
