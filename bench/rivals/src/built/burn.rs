//! burn on Flex, its backend for CPUs in pure Rust, with vector instructions and threads (`RAYON_NUM_THREADS`).

use burn_tensor::{
    Device, Tensor, TensorData, activation,
    module::{avg_pool2d, conv2d, conv3d, max_pool2d},
    ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions},
};

use super::{Conv, Engine, Norm};
use crate::{Array, Failure, Run};

/// The network of `weights` in 2-D or 3-D, whichever the input is.
pub fn network(weights: &str, input: Array) -> Result<Run, Failure> {
    match input.shape.len() {
        4 => super::network(Burn::<4>(Device::flex()), weights, input),
        5 => super::network(Burn::<5>(Device::flex()), weights, input),
        other => Err(format!("input of {other} dimensions").into()),
    }
}

/// Maps have `D` dimensions, batch and channels among them.
struct Burn<const D: usize>(Device);

/// What burn names by the number of dimensions.
trait Spatial<const D: usize> {
    fn convolve(
        x: Tensor<D>,
        kernel: Tensor<D>,
        bias: Option<Tensor<1>>,
        stride: usize,
        padding: usize,
    ) -> Tensor<D>;
    fn largest(x: Tensor<D>) -> Tensor<D>;
    fn average(x: Tensor<D>) -> Tensor<D>;
}

impl Spatial<4> for Burn<4> {
    fn convolve(
        x: Tensor<4>,
        kernel: Tensor<4>,
        bias: Option<Tensor<1>>,
        stride: usize,
        padding: usize,
    ) -> Tensor<4> {
        let options = ConvOptions::new([stride; 2], [padding; 2], [1; 2], 1);
        conv2d(x, kernel, bias, options)
    }

    fn largest(x: Tensor<4>) -> Tensor<4> {
        let options = MaxPoolOptions::new([3; 2])
            .with_stride([2; 2])
            .with_padding([1; 2]);
        max_pool2d(x, options)
    }

    fn average(x: Tensor<4>) -> Tensor<4> {
        avg_pool2d(x, AvgPoolOptions::new([2; 2]).with_stride([2; 2]))
    }
}

/// Pooling is 2-D in burn: slice by slice first, then along the depth.
impl Spatial<5> for Burn<5> {
    fn convolve(
        x: Tensor<5>,
        kernel: Tensor<5>,
        bias: Option<Tensor<1>>,
        stride: usize,
        padding: usize,
    ) -> Tensor<5> {
        let options = ConvOptions::new([stride; 3], [padding; 3], [1; 3], 1);
        conv3d(x, kernel, bias, options)
    }

    fn largest(x: Tensor<5>) -> Tensor<5> {
        let along = MaxPoolOptions::new([3, 1])
            .with_stride([2, 1])
            .with_padding([1, 0]);
        slice_by_slice(x, Burn::<4>::largest, |x| max_pool2d(x, along))
    }

    fn average(x: Tensor<5>) -> Tensor<5> {
        let along = AvgPoolOptions::new([2, 1]).with_stride([2, 1]);
        slice_by_slice(x, Burn::<4>::average, |x| avg_pool2d(x, along))
    }
}

/// `slices` on every slice of a volume, then `along` on maps of depth × pixels.
fn slice_by_slice(
    x: Tensor<5>,
    slices: impl FnOnce(Tensor<4>) -> Tensor<4>,
    along: impl FnOnce(Tensor<4>) -> Tensor<4>,
) -> Tensor<5> {
    let [batch, channels, depth, height, width] = x.dims();
    let x = slices(x.reshape([batch, channels * depth, height, width]));
    let [_, _, height, width] = x.dims();
    let x = along(x.reshape([batch, channels, depth, height * width]));
    let [_, _, depth, _] = x.dims();
    x.reshape([batch, channels, depth, height, width])
}

impl<const D: usize> Engine for Burn<D>
where
    Burn<D>: Spatial<D>,
{
    type Map = Tensor<D>;
    type Vector = Tensor<1>;

    fn map(&self, array: Array) -> Result<Tensor<D>, Failure> {
        Ok(Tensor::from_data(
            TensorData::new(array.data, array.shape),
            &self.0,
        ))
    }

    fn vector(&self, values: Vec<f32>) -> Result<Tensor<1>, Failure> {
        let length = values.len();
        Ok(Tensor::from_data(
            TensorData::new(values, [length]),
            &self.0,
        ))
    }

    fn conv(&self, x: &Tensor<D>, conv: &Conv<Self>) -> Result<Tensor<D>, Failure> {
        let (kernel, bias) = (conv.kernel.clone(), conv.bias.clone());
        Ok(Self::convolve(
            x.clone(),
            kernel,
            bias,
            conv.stride,
            conv.padding,
        ))
    }

    fn norm_relu(&self, x: &Tensor<D>, norm: &Norm<Self>) -> Result<Tensor<D>, Failure> {
        let y = x.clone() * norm.scale.clone() + norm.shift.clone();
        Ok(activation::relu(y))
    }

    fn relu(&self, x: Tensor<D>) -> Result<Tensor<D>, Failure> {
        Ok(activation::relu(x))
    }

    fn concat(&self, old: Tensor<D>, new: Tensor<D>) -> Result<Tensor<D>, Failure> {
        Ok(Tensor::cat(vec![old, new], 1))
    }

    fn max_pool(&self, x: &Tensor<D>) -> Result<Tensor<D>, Failure> {
        Ok(Self::largest(x.clone()))
    }

    fn avg_pool(&self, x: &Tensor<D>) -> Result<Tensor<D>, Failure> {
        Ok(Self::average(x.clone()))
    }

    fn mean(&self, x: &Tensor<D>) -> Result<Tensor<D>, Failure> {
        let extents: Vec<usize> = (2..D).collect();
        Ok(x.clone().mean_dims(&extents))
    }

    fn numbers(&self, x: Tensor<D>) -> Result<Vec<f32>, Failure> {
        Ok(x.into_data().try_to_vec()?)
    }
}
