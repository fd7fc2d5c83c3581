//! Engines whose ONNX readers generate code or need `protoc`: the network in their own operations.
//!
//! It is what a careful user of such a library would write. A norm behind a convolution is part of that convolution; any
//! other norm is one product and one sum with its ReLU. Weights and the number of layers come from PyTorch's file.

pub mod burn;
pub mod candle;

use std::{collections::HashMap, fs, path::Path};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::{Array, Failure, Run};

/// What a DenseNet is made of. Maps are `batch × channels × height × width`, with a depth before the height in 3-D.
trait Engine {
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
    /// The largest of 3 along every extent, every other one, padded by one; nothing in `x` is negative.
    fn max_pool(&self, x: &Self::Map) -> Result<Self::Map, Failure>;
    /// The mean of 2 along every extent, every other one.
    fn avg_pool(&self, x: &Self::Map) -> Result<Self::Map, Failure>;
    /// The mean of all pixels, as a map of one.
    fn mean(&self, x: &Self::Map) -> Result<Self::Map, Failure>;
    fn numbers(&self, x: Self::Map) -> Result<Vec<f32>, Failure>;
}

/// A convolution, with the norm behind it if there is one.
struct Conv<E: Engine + ?Sized> {
    kernel: E::Map,
    bias: Option<E::Vector>,
    stride: usize,
    padding: usize,
}

struct Norm<E: Engine + ?Sized> {
    scale: E::Map,
    shift: E::Map,
}

/// A dense layer: `conv2(relu(conv1(relu(norm1(x)))))`, or without the second half.
struct Layer<E: Engine> {
    norm1: Norm<E>,
    conv1: Conv<E>,
    conv2: Option<Conv<E>>,
}

/// What halves the maps behind a block, before its mean.
struct Transition<E: Engine> {
    norm: Norm<E>,
    conv: Conv<E>,
}

struct Block<E: Engine> {
    layers: Vec<Layer<E>>,
    /// The last block has none.
    transition: Option<Transition<E>>,
}

struct Network<E: Engine> {
    engine: E,
    conv0: Conv<E>,
    /// Norm, ReLU and pooling follow the first convolution.
    large_stem: bool,
    blocks: Vec<Block<E>>,
    norm5: Norm<E>,
    classifier: Conv<E>,
}

/// The network of `weights` on `engine`, answering `input`.
fn network<E: Engine + 'static>(engine: E, weights: &str, input: Array) -> Result<Run, Failure> {
    let bytes = fs::read(Path::new(weights))?;
    let network = Network::load(
        engine,
        &File::of(&SafeTensors::deserialize(&bytes)?, &input),
    )?;
    drop(bytes);
    let input = network.engine.map(input)?;
    Ok(Box::new(move || network.answer(&input)))
}

impl<E: Engine> Layer<E> {
    /// `None` if the file has no such layer.
    fn load(engine: &E, file: &File, name: &str) -> Result<Option<Self>, Failure> {
        let [norm1, conv1, norm2, conv2] =
            ["norm1", "conv1", "norm2", "conv2"].map(|part| format!("{name}.{part}"));
        if !file.has(&format!("{conv1}.weight")) {
            return Ok(None);
        }
        let norm1 = file.norm(engine, &norm1)?;
        let bottleneck = file.has(&format!("{conv2}.weight"));
        Ok(Some(if bottleneck {
            Layer {
                norm1,
                conv1: file.conv(engine, &conv1, Some(&norm2), 1, 0)?,
                conv2: Some(file.conv(engine, &conv2, None, 1, 1)?),
            }
        } else {
            Layer {
                norm1,
                conv1: file.conv(engine, &conv1, None, 1, 1)?,
                conv2: None,
            }
        }))
    }
}

impl<E: Engine> Block<E> {
    /// Block `number`, counted from 1; `None` if the file has no such block.
    fn load(engine: &E, file: &File, number: usize) -> Result<Option<Self>, Failure> {
        let mut layers = Vec::new();
        loop {
            let name = format!("features.denseblock{number}.denselayer{}", layers.len() + 1);
            match Layer::load(engine, file, &name)? {
                Some(layer) => layers.push(layer),
                None if layers.is_empty() => return Ok(None),
                None => break,
            }
        }
        let [norm, conv] =
            ["norm", "conv"].map(|part| format!("features.transition{number}.{part}"));
        let transition = if file.has(&format!("{conv}.weight")) {
            Some(Transition {
                norm: file.norm(engine, &norm)?,
                conv: file.conv(engine, &conv, None, 1, 0)?,
            })
        } else {
            None
        };
        Ok(Some(Block { layers, transition }))
    }
}

impl<E: Engine> Network<E> {
    fn load(engine: E, file: &File) -> Result<Self, Failure> {
        let large_stem = file.has("features.norm0.weight");
        let (norm0, stride, padding) = if large_stem {
            (Some("features.norm0"), 2, 3)
        } else {
            (None, 1, 1)
        };
        let mut blocks = Vec::new();
        while let Some(block) = Block::load(&engine, file, blocks.len() + 1)? {
            blocks.push(block);
        }
        let mut kernel = file.array("classifier.weight")?;
        kernel.shape.extend(&file.pixel);
        Ok(Network {
            conv0: file.conv(&engine, "features.conv0", norm0, stride, padding)?,
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
        for block in &self.blocks {
            for layer in &block.layers {
                let mut new = e.conv(&e.norm_relu(&x, &layer.norm1)?, &layer.conv1)?;
                if let Some(conv2) = &layer.conv2 {
                    new = e.conv(&e.relu(new)?, conv2)?;
                }
                x = e.concat(x, new)?;
            }
            if let Some(Transition { norm, conv }) = &block.transition {
                x = e.avg_pool(&e.conv(&e.norm_relu(&x, norm)?, conv)?)?;
            }
        }
        let x = e.mean(&e.norm_relu(&x, &self.norm5)?)?;
        e.numbers(e.conv(&x, &self.classifier)?)
    }
}

/// PyTorch's tensors by torchvision's names.
struct File<'a> {
    tensors: HashMap<String, TensorView<'a>>,
    /// The extents of one pixel: a 1 for each.
    pixel: Vec<usize>,
}

impl<'a> File<'a> {
    fn of(file: &SafeTensors<'a>, input: &Array) -> Self {
        // 3-D networks have MONAI's names.
        let name = |name: &str| {
            name.replace(".layers.", ".")
                .replace("class_layers.out", "classifier")
        };
        File {
            tensors: file
                .iter()
                .map(|(theirs, tensor)| (name(theirs), tensor))
                .collect(),
            pixel: input.shape.iter().skip(2).map(|_| 1).collect(),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn array(&self, name: &str) -> Result<Array, Failure> {
        let tensor = self.tensors.get(name);
        let tensor = tensor.ok_or_else(|| format!("{name}: missing"))?;
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
            let mut shape = vec![1, data.len()];
            shape.extend(&self.pixel);
            engine.map(Array { shape, data })
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
