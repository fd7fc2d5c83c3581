//! ONNX's messages.
//!
//! `proto/onnx.rs` is what `tools/onnx/proto` makes of the schema in the `onnx` Python package: prost's types, checked in,
//! so that building needs no protobuf compiler. Tensors are [`bytes::Bytes`], slices of the file that was read.

#[allow(clippy::all, missing_docs)]
#[rustfmt::skip]
mod onnx;

pub(crate) use onnx::*;

use attribute_proto::AttributeType;
use tensor_proto::DataType;
use tensor_shape_proto::{Dimension, dimension};

/// What ONNX calls a type of numbers, in lower case and with its width: `float32`, `int64`.
pub(crate) fn dtype_name(code: i32) -> String {
    match DataType::try_from(code) {
        Ok(DataType::Undefined) => "undefined".to_string(),
        Ok(DataType::Float) => "float32".to_string(),
        Ok(DataType::Double) => "float64".to_string(),
        Ok(known) => known.as_str_name().to_ascii_lowercase(),
        Err(_) => format!("type {code}"),
    }
}

impl AttributeProto {
    /// An attribute that is one whole number.
    pub(crate) fn int(name: &str, value: i64) -> Self {
        AttributeProto {
            name: Some(name.to_string()),
            r#type: Some(AttributeType::Int.into()),
            i: Some(value),
            ..Default::default()
        }
    }

    /// An attribute that is one real number.
    pub(crate) fn float(name: &str, value: f32) -> Self {
        AttributeProto {
            name: Some(name.to_string()),
            r#type: Some(AttributeType::Float.into()),
            f: Some(value),
            ..Default::default()
        }
    }

    /// An attribute that is a list of whole numbers.
    pub(crate) fn ints(name: &str, values: Vec<i64>) -> Self {
        AttributeProto {
            name: Some(name.to_string()),
            r#type: Some(AttributeType::Ints.into()),
            ints: values,
            ..Default::default()
        }
    }
}

impl StringStringEntryProto {
    /// A pair of metadata.
    pub(crate) fn pair(key: &str, value: impl Into<String>) -> Self {
        StringStringEntryProto {
            key: Some(key.to_string()),
            value: Some(value.into()),
        }
    }
}

impl ValueInfoProto {
    /// A tensor of this name, type of numbers and shape.
    pub(crate) fn tensor(name: &str, dtype: DataType, shape: Vec<dimension::Value>) -> Self {
        let dim = shape
            .into_iter()
            .map(|value| Dimension {
                denotation: None,
                value: Some(value),
            })
            .collect();
        let tensor = type_proto::Tensor {
            elem_type: Some(dtype.into()),
            shape: Some(TensorShapeProto { dim }),
        };
        ValueInfoProto {
            name: Some(name.to_string()),
            r#type: Some(TypeProto {
                denotation: None,
                value: Some(type_proto::Value::TensorType(tensor)),
            }),
            ..Default::default()
        }
    }
}
