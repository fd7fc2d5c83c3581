//! Takes optimiser steps on given batches from given weights and prints the losses: what `tools/curves` holds against
//! PyTorch.
//!
//! ```text
//! steps CONFIG.json WEIGHTS.f32 IMAGES.f32 LABELS.u32 BATCH DEPTHxHEIGHTxWIDTH LR [GRADIENTS.f32]
//! ```
//!
//! Files hold little-endian numbers and nothing else: weights and gradients in the order and layout of PyTorch's
//! `state_dict` (without `num_batches_tracked`) and `parameters`, images channels-last, one batch after the other. SGD with
//! Nesterov's momentum of 0.9 and a weight decay of 1e-4, as PyTorch's. With a fourth file the gradients of the first batch
//! are written there, and no step is taken.

use std::{error::Error, fs};

use densenet::{Input, Network, NetworkOptions};
use densenet_spec::Architecture;
use densenet_weights::{ConfigFile, InitMode, initialize};

const USAGE: &str =
    "steps CONFIG.json WEIGHTS.f32 IMAGES.f32 LABELS.u32 BATCH DxHxW LR [GRADIENTS.f32]";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (given, gradients) = match arguments.as_slice() {
        [given @ .., last] if arguments.len() == 8 => (given, Some(last)),
        given => (given, None),
    };
    let [config, weights, images, labels, batch, size, lr] = given else {
        return Err(USAGE.into());
    };
    let config: ConfigFile = serde_json::from_str(&fs::read_to_string(config)?)?;
    let config = config.complete()?;
    let architecture = Architecture::new(&config)?;
    let mut state = initialize(&architecture, 0, InitMode::default_for(config.spatial_dims));
    let mut values = floats(weights)?.into_iter();
    for (_, tensor) in state.iter_mut() {
        for (target, value) in tensor.data.iter_mut().zip(&mut values) {
            *target = value;
        }
    }
    let (images, batch): (_, usize) = (floats(images)?, batch.parse()?);
    let labels: Vec<usize> = words(labels)?
        .map(|b| u32::from_le_bytes(b) as usize)
        .collect();
    let lr: f32 = lr.parse()?;
    let sizes: Result<Vec<usize>, _> = size.split('x').map(str::parse).collect();
    let spatial: [usize; 3] = sizes?.try_into().map_err(|_| USAGE)?;
    let mut network = Network::new(&config, &state, &NetworkOptions::default())?;
    let mut velocity = vec![0.0f32; network.parameters().len()];
    let step = batch * config.in_channels * spatial.iter().product::<usize>();
    let mut losses = Vec::new();
    for (data, labels) in images.chunks_exact(step).zip(labels.chunks_exact(batch)) {
        let input = Input {
            data,
            batch,
            spatial,
        };
        network.zero_grad();
        let logits = network.forward(input, losses.len() as u64)?;
        let (loss, grad) = cross_entropy(logits, labels);
        losses.push(loss);
        network.backward(&grad)?;
        if let Some(path) = gradients {
            let all = network.gradient_dict();
            let values = all.iter().flat_map(|(_, tensor)| &tensor.data);
            fs::write(
                path,
                values.flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>(),
            )?;
            break;
        }
        network.update_running_statistics();
        let (parameters, gradients) = network.parameters_and_gradients_mut();
        for ((p, g), v) in parameters.iter_mut().zip(gradients).zip(&mut velocity) {
            let g = *g + 1e-4 * *p;
            *v = 0.9 * *v + g;
            *p -= lr * (g + 0.9 * *v);
        }
    }
    println!("{}", serde_json::to_string(&losses)?);
    Ok(())
}

/// Mean cross entropy and its gradient at the logits.
fn cross_entropy(logits: &[f32], labels: &[usize]) -> (f64, Vec<f32>) {
    let classes = logits.len() / labels.len();
    let (mut loss, mut grad) = (0.0, Vec::with_capacity(logits.len()));
    for (row, label) in logits.chunks_exact(classes).zip(labels) {
        let largest = row.iter().copied().fold(f32::MIN, f32::max);
        let exp: Vec<f64> = row.iter().map(|v| f64::from(v - largest).exp()).collect();
        let sum: f64 = exp.iter().sum();
        loss -= (exp[*label] / sum).ln() / labels.len() as f64;
        let share = |(c, e): (usize, &f64)| {
            let target = f64::from(u8::from(c == *label));
            ((e / sum - target) / labels.len() as f64) as f32
        };
        grad.extend(exp.iter().enumerate().map(share));
    }
    (loss, grad)
}

/// The four-byte words of a file.
fn words(path: &str) -> Result<impl Iterator<Item = [u8; 4]>, std::io::Error> {
    let bytes = fs::read(path)?;
    let words: Vec<[u8; 4]> = bytes
        .chunks_exact(4)
        .map(|b| [b[0], b[1], b[2], b[3]])
        .collect();
    Ok(words.into_iter())
}

fn floats(path: &str) -> Result<Vec<f32>, std::io::Error> {
    Ok(words(path)?.map(f32::from_le_bytes).collect())
}
