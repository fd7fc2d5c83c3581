//! candle's tensors on the CPU. Its matrix products and convolutions take their threads from `RAYON_NUM_THREADS`.

use candle_core::{Device, Tensor};

use super::{Conv, Engine, Norm};
use crate::{Array, Failure, Run};

/// The network of `weights`, which has to be 2-D.
pub fn network(weights: &str, input: Array) -> Result<Run, Failure> {
    if input.shape.len() != 4 {
        return Err("no convolution in 3-D".into());
    }
    super::network(Candle, weights, input)
}

struct Candle;

impl Engine for Candle {
    type Map = Tensor;
    type Vector = Tensor;

    fn map(&self, array: Array) -> Result<Tensor, Failure> {
        Ok(Tensor::from_vec(array.data, array.shape, &Device::Cpu)?)
    }

    fn vector(&self, values: Vec<f32>) -> Result<Tensor, Failure> {
        Ok(Tensor::from_vec(
            values.clone(),
            (1, values.len(), 1, 1),
            &Device::Cpu,
        )?)
    }

    fn conv(&self, x: &Tensor, conv: &Conv<Self>) -> Result<Tensor, Failure> {
        let y = x.conv2d(&conv.kernel, conv.padding, conv.stride, 1, 1)?;
        Ok(match &conv.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        })
    }

    fn norm_relu(&self, x: &Tensor, norm: &Norm<Self>) -> Result<Tensor, Failure> {
        Ok(x.broadcast_mul(&norm.scale)?
            .broadcast_add(&norm.shift)?
            .relu()?)
    }

    fn relu(&self, x: Tensor) -> Result<Tensor, Failure> {
        Ok(x.relu()?)
    }

    fn concat(&self, old: Tensor, new: Tensor) -> Result<Tensor, Failure> {
        Ok(Tensor::cat(&[old, new], 1)?)
    }

    fn max_pool(&self, x: &Tensor) -> Result<Tensor, Failure> {
        let padded = x.pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?;
        Ok(padded.max_pool2d_with_stride(3, 2)?)
    }

    fn avg_pool(&self, x: &Tensor) -> Result<Tensor, Failure> {
        Ok(x.avg_pool2d(2)?)
    }

    fn mean(&self, x: &Tensor) -> Result<Tensor, Failure> {
        Ok(x.mean_keepdim((2, 3))?)
    }

    fn numbers(&self, x: Tensor) -> Result<Vec<f32>, Failure> {
        Ok(x.flatten_all()?.to_vec1()?)
    }
}
