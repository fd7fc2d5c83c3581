//! burn on Flex, its backend for CPUs in pure Rust, with vector instructions and threads (`RAYON_NUM_THREADS`).

use burn_tensor::{
    Device, Tensor, TensorData, activation,
    module::{avg_pool2d, conv2d, max_pool2d},
    ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions},
};

use super::{Conv, Engine, Norm};
use crate::{Array, Failure};

pub struct Burn(Device);

impl Default for Burn {
    fn default() -> Self {
        Burn(Device::flex())
    }
}

impl Engine for Burn {
    type Map = Tensor<4>;
    type Vector = Tensor<1>;

    fn map(&self, array: Array) -> Result<Tensor<4>, Failure> {
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

    fn conv(&self, x: &Tensor<4>, conv: &Conv<Self>) -> Result<Tensor<4>, Failure> {
        let options = ConvOptions::new([conv.stride; 2], [conv.padding; 2], [1; 2], 1);
        Ok(conv2d(
            x.clone(),
            conv.kernel.clone(),
            conv.bias.clone(),
            options,
        ))
    }

    fn norm_relu(&self, x: &Tensor<4>, norm: &Norm<Self>) -> Result<Tensor<4>, Failure> {
        let y = x.clone() * norm.scale.clone() + norm.shift.clone();
        Ok(activation::relu(y))
    }

    fn relu(&self, x: Tensor<4>) -> Result<Tensor<4>, Failure> {
        Ok(activation::relu(x))
    }

    fn concat(&self, old: Tensor<4>, new: Tensor<4>) -> Result<Tensor<4>, Failure> {
        Ok(Tensor::cat(vec![old, new], 1))
    }

    fn max_pool(&self, x: &Tensor<4>) -> Result<Tensor<4>, Failure> {
        let options = MaxPoolOptions::new([3; 2])
            .with_stride([2; 2])
            .with_padding([1; 2]);
        Ok(max_pool2d(x.clone(), options))
    }

    fn avg_pool(&self, x: &Tensor<4>) -> Result<Tensor<4>, Failure> {
        Ok(avg_pool2d(
            x.clone(),
            AvgPoolOptions::new([2; 2]).with_stride([2; 2]),
        ))
    }

    fn mean(&self, x: &Tensor<4>) -> Result<Tensor<4>, Failure> {
        Ok(x.clone().mean_dims(&[2, 3]))
    }

    fn numbers(&self, x: Tensor<4>) -> Result<Vec<f32>, Failure> {
        Ok(x.into_data().try_to_vec()?)
    }
}
