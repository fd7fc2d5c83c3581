//! Engines whose ONNX readers generate code or need `protoc`: the network in their own operations, 2-D.
//!
//! It is what a careful user of such a library would write. A norm behind a convolution is part of that convolution; any
//! other norm is one product and one sum with its ReLU. Weights and the number of layers come from PyTorch's file.

pub mod burn;
pub mod candle;

use std::{fs, path::Path};

use safetensors::{Dtype, SafeTensors};

use crate::{Array, Failure, Run};

/// What a DenseNet is made of. Maps are `batch × channels × height × width`.
pub trait Engine {
    /// Maps and kernels.
    type Map;
    /// A number for each channel.
    type Vector;

    fn map(&self, array: Array) -> Result<Self::Map, Failure>;
    fn vector(&self, values: Vec<f32>) -> Result<Self::Vector, Failure>;
    fn conv(&self, x: &Self::Map, conv: &Conv<Self>) -> Result<Self::Map, Failure>;
    /// `max(x · scale + shift, 0)`; both are maps of one pixel.
    fn norm_relu(&self, x: &Self::Map, norm: &Norm<Self>) -> Result<Self::Map, Failure>;
    fn relu(&self, x: Self::Map) -> Result<Self::Map, Failure>;
    /// Both, along the channels.
    fn concat(&self, old: Self::Map, new: Self::Map) -> Result<Self::Map, Failure>;
    /// The largest of 3×3, every other one, padded by one; nothing in `x` is negative.
    fn max_pool(&self, x: &Self::Map) -> Result<Self::Map, Failure>;
    /// The mean of 2×2, every other one.
    fn avg_pool(&self, x: &Self::Map) -> Result<Self::Map, Failure>;
    /// The mean of all pixels, as a map of one.
    fn mean(&self, x: &Self::Map) -> Result<Self::Map, Failure>;
    fn numbers(&self, x: Self::Map) -> Result<Vec<f32>, Failure>;
}

/// A convolution, with the norm behind it if there is one.
pub struct Conv<E: Engine + ?Sized> {
    pub kernel: E::Map,
    pub bias: Option<E::Vector>,
    pub stride: usize,
    pub padding: usize,
}

pub struct Norm<E: Engine + ?Sized> {
    pub scale: E::Map,
    pub shift: E::Map,
}

/// A dense layer: `conv2(relu(conv1(relu(norm1(x)))))`, or without the second half.
struct Layer<E: Engine> {
    norm1: Norm<E>,
    conv1: Conv<E>,
    conv2: Option<Conv<E>>,
}

struct Network<E: Engine> {
    engine: E,
    conv0: Conv<E>,
    /// Norm, ReLU and pooling follow the first convolution.
    large_stem: bool,
    /// Blocks, and what follows each.
    blocks: Vec<(Vec<Layer<E>>, Option<(Norm<E>, Conv<E>)>)>,
    norm5: Norm<E>,
    classifier: Conv<E>,
}

/// The network of `weights` on `engine`, answering `input`.
pub fn network<E: Engine + 'static>(
    engine: E,
    weights: &str,
    input: Array,
) -> Result<Run, Failure> {
    if input.shape.len() != 4 {
        return Err("no pooling in 3-D".into());
    }
    let bytes = fs::read(Path::new(weights))?;
    let network = Network::load(engine, &File(SafeTensors::deserialize(&bytes)?))?;
    drop(bytes);
    let input = network.engine.map(input)?;
    Ok(Box::new(move || network.answer(&input)))
}

impl<E: Engine> Network<E> {
    fn load(engine: E, file: &File) -> Result<Self, Failure> {
        let large_stem = file.has("features.norm0.weight");
        let (norm0, stride, padding) = if large_stem {
            (Some("features.norm0"), 2, 3)
        } else {
            (None, 1, 1)
        };
        let conv0 = file.conv(&engine, "features.conv0", norm0, stride, padding)?;
        let mut blocks = Vec::new();
        for b in 1.. {
            let mut layers = Vec::new();
            for l in 1.. {
                let layer = format!("features.denseblock{b}.denselayer{l}");
                if !file.has(&format!("{layer}.conv1.weight")) {
                    break;
                }
                let [norm1, conv1, norm2, conv2] =
                    ["norm1", "conv1", "norm2", "conv2"].map(|part| format!("{layer}.{part}"));
                let bottleneck = file.has(&format!("{conv2}.weight"));
                let (folded, around) = if bottleneck {
                    (Some(norm2.as_str()), 0)
                } else {
                    (None, 1)
                };
                let second = bottleneck.then(|| file.conv(&engine, &conv2, None, 1, 1));
                layers.push(Layer {
                    norm1: file.norm(&engine, &norm1)?,
                    conv1: file.conv(&engine, &conv1, folded, 1, around)?,
                    conv2: second.transpose()?,
                });
            }
            if layers.is_empty() {
                break;
            }
            let transition = format!("features.transition{b}");
            let transition = file.has(&format!("{transition}.conv.weight")).then(|| {
                let norm = file.norm(&engine, &format!("{transition}.norm"))?;
                let conv = file.conv(&engine, &format!("{transition}.conv"), None, 1, 0)?;
                Ok::<_, Failure>((norm, conv))
            });
            blocks.push((layers, transition.transpose()?));
        }
        let mut kernel = file.array("classifier.weight")?;
        kernel.shape.extend([1, 1]);
        Ok(Network {
            conv0,
            large_stem,
            blocks,
            norm5: file.norm(&engine, "features.norm5")?,
            classifier: Conv {
                kernel: engine.map(kernel)?,
                bias: Some(engine.vector(file.array("classifier.bias")?.data)?),
                stride: 1,
                padding: 0,
            },
            engine,
        })
    }

    fn answer(&self, input: &E::Map) -> Result<Vec<f32>, Failure> {
        let e = &self.engine;
        let mut x = e.conv(input, &self.conv0)?;
        if self.large_stem {
            x = e.max_pool(&e.relu(x)?)?;
        }
        for (layers, transition) in &self.blocks {
            for layer in layers {
                let mut new = e.conv(&e.norm_relu(&x, &layer.norm1)?, &layer.conv1)?;
                if let Some(conv2) = &layer.conv2 {
                    new = e.conv(&e.relu(new)?, conv2)?;
                }
                x = e.concat(x, new)?;
            }
            if let Some((norm, conv)) = transition {
                x = e.avg_pool(&e.conv(&e.norm_relu(&x, norm)?, conv)?)?;
            }
        }
        let x = e.mean(&e.norm_relu(&x, &self.norm5)?)?;
        e.numbers(e.conv(&x, &self.classifier)?)
    }
}

/// PyTorch's tensors by torchvision's names.
struct File<'a>(SafeTensors<'a>);

impl File<'_> {
    fn has(&self, name: &str) -> bool {
        self.0.tensor(name).is_ok()
    }

    fn array(&self, name: &str) -> Result<Array, Failure> {
        let tensor = self.0.tensor(name)?;
        if tensor.dtype() != Dtype::F32 {
            return Err(format!("{name}: not f32").into());
        }
        let words = tensor.data().as_chunks::<4>().0.iter();
        Ok(Array {
            shape: tensor.shape().to_vec(),
            data: words.map(|&word| f32::from_le_bytes(word)).collect(),
        })
    }

    /// A norm as the line it is: scale and shift of each channel.
    fn line(&self, name: &str) -> Result<(Vec<f32>, Vec<f32>), Failure> {
        const EPS: f64 = 1e-5;
        let part = |part: &str| Ok::<_, Failure>(self.array(&format!("{name}.{part}"))?.data);
        let (weight, bias) = (part("weight")?, part("bias")?);
        let (mean, variance) = (part("running_mean")?, part("running_var")?);
        let of = weight.iter().zip(&bias).zip(mean.iter().zip(&variance));
        Ok(of
            .map(|((&weight, &bias), (&mean, &variance))| {
                let scale = f64::from(weight) / (f64::from(variance) + EPS).sqrt();
                (
                    scale as f32,
                    (f64::from(bias) - f64::from(mean) * scale) as f32,
                )
            })
            .unzip())
    }

    fn norm<E: Engine>(&self, engine: &E, name: &str) -> Result<Norm<E>, Failure> {
        let (scale, shift) = self.line(name)?;
        let pixel = |data: Vec<f32>| {
            engine.map(Array {
                shape: vec![1, data.len(), 1, 1],
                data,
            })
        };
        Ok(Norm {
            scale: pixel(scale)?,
            shift: pixel(shift)?,
        })
    }

    fn conv<E: Engine>(
        &self,
        engine: &E,
        name: &str,
        norm: Option<&str>,
        stride: usize,
        padding: usize,
    ) -> Result<Conv<E>, Failure> {
        let mut kernel = self.array(&format!("{name}.weight"))?;
        let mut bias = None;
        if let Some(norm) = norm {
            let (scale, shift) = self.line(norm)?;
            let each = kernel.data.len() / scale.len().max(1);
            for (weights, scale) in kernel.data.chunks_mut(each.max(1)).zip(scale) {
                weights.iter_mut().for_each(|weight| *weight *= scale);
            }
            bias = Some(engine.vector(shift)?);
        }
        Ok(Conv {
            kernel: engine.map(kernel)?,
            bias,
            stride,
            padding,
        })
    }
}
