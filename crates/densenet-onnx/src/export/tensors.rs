//! The weights, as they are or folded, in f32 or half precision.

use bytes::Bytes;
use densenet_spec::{Architecture, Layer, ParameterKind};
use densenet_weights::{Model, Tensor};
use half::f16;

use crate::{
    error::OnnxError,
    extent::Extent,
    proto::{
        AttributeProto, NodeProto, TensorProto, ValueInfoProto, tensor_proto::DataType,
        tensor_shape_proto::dimension,
    },
};

/// Collects initializers, and the casts that turn half-precision ones into f32.
pub(super) struct Tensors<'a> {
    architecture: &'a Architecture,
    model: &'a Model,
    f16: bool,
    initializers: Vec<TensorProto>,
    casts: Vec<NodeProto>,
    casted: Vec<ValueInfoProto>,
}

impl<'a> Tensors<'a> {
    pub(super) fn new(architecture: &'a Architecture, model: &'a Model, f16: bool) -> Self {
        Tensors {
            architecture,
            model,
            f16,
            initializers: Vec::new(),
            casts: Vec::new(),
            casted: Vec::new(),
        }
    }

    /// The weight of a convolution; with the `norm` behind it folded in, its scaled weight and the bias
    /// `β − μ·γ/√(σ² + ε)`. Returns the names of a node's inputs.
    pub(super) fn conv(
        &mut self,
        layer: &Layer,
        norm: Option<&Layer>,
    ) -> Result<Vec<String>, OnnxError> {
        let (name, weight) = self.parameter(layer, ParameterKind::ConvWeight)?;
        let Some(norm) = norm else {
            return Ok(vec![self.heavy(name, &weight.shape, &weight.data)?]);
        };
        let part = |kind| Ok::<_, OnnxError>(self.parameter(norm, kind)?.1.data.as_slice());
        let (gamma, beta) = (
            part(ParameterKind::NormWeight)?,
            part(ParameterKind::NormBias)?,
        );
        let (mean, var) = (
            part(ParameterKind::RunningMean)?,
            part(ParameterKind::RunningVar)?,
        );
        let eps = self.architecture.config().bn_eps;
        let mut data = Vec::with_capacity(weight.len());
        let mut bias = Vec::with_capacity(beta.len());
        let rows = weight.data.chunks(weight.len() / beta.len().max(1));
        for ((((row, &gamma), &beta), &mean), &var) in rows.zip(gamma).zip(beta).zip(mean).zip(var)
        {
            let scale = f64::from(gamma) / (f64::from(var) + eps).sqrt();
            data.extend(row.iter().map(|&value| (f64::from(value) * scale) as f32));
            bias.push((f64::from(beta) - f64::from(mean) * scale) as f32);
        }
        if data.iter().chain(&bias).any(|value| !value.is_finite()) {
            let what = format!(
                "{} cannot be folded: its variance is too small for it",
                norm.name
            );
            return Err(OnnxError::usage("fold", what, "export without folding"));
        }
        let shape = weight.shape.clone();
        let weight = self.heavy(name, &shape, &data)?;
        let bias = self.light(&format!("{}.bias", layer.name), &bias);
        Ok(vec![weight, bias])
    }

    /// γ, β, μ, σ² of a norm, in the order of ONNX's inputs. They stay f32: a variance need not fit into half precision.
    pub(super) fn norm(&mut self, layer: &Layer) -> Result<Vec<String>, OnnxError> {
        let kinds = [
            ParameterKind::NormWeight,
            ParameterKind::NormBias,
            ParameterKind::RunningMean,
            ParameterKind::RunningVar,
        ];
        kinds
            .into_iter()
            .map(|kind| {
                let (name, tensor) = self.parameter(layer, kind)?;
                Ok(self.light(name, &tensor.data))
            })
            .collect()
    }

    /// Weight and bias of the classifier.
    pub(super) fn linear(&mut self, layer: &Layer) -> Result<Vec<String>, OnnxError> {
        let (name, weight) = self.parameter(layer, ParameterKind::LinearWeight)?;
        let weight = self.heavy(name, &weight.shape, &weight.data)?;
        let (name, bias) = self.parameter(layer, ParameterKind::LinearBias)?;
        Ok(vec![weight, self.light(name, &bias.data)])
    }

    /// The casts that the next node needs, and what they compute.
    pub(super) fn take_casts(&mut self) -> (Vec<NodeProto>, Vec<ValueInfoProto>) {
        (
            std::mem::take(&mut self.casts),
            std::mem::take(&mut self.casted),
        )
    }

    pub(super) fn finish(self) -> Vec<TensorProto> {
        self.initializers
    }

    fn parameter(
        &self,
        layer: &Layer,
        kind: ParameterKind,
    ) -> Result<(&'a str, &'a Tensor), OnnxError> {
        let parameters = self.architecture.parameters().get(layer.parameters.clone());
        parameters
            .into_iter()
            .flatten()
            .find(|parameter| parameter.kind == kind)
            .and_then(|parameter| {
                Some((
                    parameter.name.as_str(),
                    self.model.state.get(&parameter.name)?,
                ))
            })
            // A checked model holds every parameter.
            .ok_or_else(|| OnnxError::malformed(format!("{} has no {kind:?}", layer.name)))
    }

    /// A tensor of many elements, in half precision where that is asked for; the name of its values in f32.
    fn heavy(&mut self, name: &str, shape: &[usize], data: &[f32]) -> Result<String, OnnxError> {
        if !self.f16 {
            self.store(
                name,
                DataType::Float,
                shape,
                data.iter().flat_map(|v| v.to_le_bytes()),
            );
            return Ok(name.to_string());
        }
        let halves: Vec<f16> = data.iter().map(|&value| f16::from_f32(value)).collect();
        if let Some(index) = halves.iter().position(|half| !half.is_finite()) {
            let value = data.get(index).copied().unwrap_or_default();
            let what = format!(
                "element {index} of {name} is {value}, beyond f16's {}",
                f16::MAX
            );
            return Err(OnnxError::usage("f16", what, "export in full precision"));
        }
        self.store(
            name,
            DataType::Float16,
            shape,
            halves.iter().flat_map(|v| v.to_le_bytes()),
        );
        let value = format!("{name}/f32");
        self.casts.push(NodeProto {
            input: vec![name.to_string()],
            output: vec![value.clone()],
            name: Some(format!("/{}/cast", name.replace('.', "/"))),
            op_type: Some("Cast".to_string()),
            attribute: vec![AttributeProto::int("to", DataType::Float as i64)],
            ..Default::default()
        });
        let dims: Vec<dimension::Value> = shape
            .iter()
            .map(|&size| Extent::Known(size).into())
            .collect();
        self.casted
            .push(ValueInfoProto::tensor(&value, DataType::Float, dims));
        Ok(value)
    }

    /// A vector, always in f32.
    fn light(&mut self, name: &str, data: &[f32]) -> String {
        let bytes = data.iter().flat_map(|value| value.to_le_bytes());
        self.store(name, DataType::Float, &[data.len()], bytes);
        name.to_string()
    }

    fn store(
        &mut self,
        name: &str,
        dtype: DataType,
        shape: &[usize],
        bytes: impl Iterator<Item = u8>,
    ) {
        let width = if dtype == DataType::Float { 4 } else { 2 };
        let mut raw = Vec::with_capacity(width * shape.iter().product::<usize>());
        raw.extend(bytes);
        self.initializers.push(TensorProto {
            dims: shape.iter().map(|&size| size as i64).collect(),
            data_type: Some(dtype.into()),
            name: Some(name.to_string()),
            raw_data: Some(Bytes::from(raw)),
            ..Default::default()
        });
    }
}
