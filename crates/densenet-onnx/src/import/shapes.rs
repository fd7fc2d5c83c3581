//! The arithmetic that exporters do on shapes and stored tensors, beside the network proper.

use std::collections::HashMap;

use super::{
    attributes::{Attributes, refuse},
    constants::Constant,
    operations::{Value, unknown},
};
use crate::{
    error::OnnxError,
    proto::{NodeProto, tensor_proto::DataType},
};

/// Operators that compute shapes from shapes.
const ARITHMETIC: &[&str] = &[
    "Add",
    "Concat",
    "Div",
    "Gather",
    "Mul",
    "Range",
    "Reshape",
    "Slice",
    "Squeeze",
    "Sub",
    "Unsqueeze",
];

/// What `node` computes, where that does not depend on the network's maps but for their shapes; none where it does.
///
/// # Errors
/// Inputs that are nowhere computed, and constants of kinds that no DenseNet needs.
pub(super) fn constant<'a>(
    node: &'a NodeProto,
    values: &HashMap<&'a str, Value<'a>>,
) -> Result<Option<Constant<'a>>, OnnxError> {
    match node.op_type() {
        "Constant" => return literal(node).map(Some),
        "Shape" | "Size" => return Ok(Some(Constant::Shape)),
        _ => {}
    }
    let input = |index: usize| {
        let name = node.input.get(index).map_or("", String::as_str);
        values.get(name).ok_or_else(|| unknown(node, name))
    };
    let constant = |index: usize| {
        Ok::<_, OnnxError>(match input(index)? {
            Value::Constant(constant) => Some(constant.clone()),
            Value::Channels(_) => None,
        })
    };
    if node.input.is_empty() {
        return Ok(None);
    }
    let Some(first) = constant(0)? else {
        return Ok(None);
    };
    Ok(match node.op_type() {
        // The type follows the second input, the numbers the first.
        "Identity" | "CastLike" => Some(first),
        "Cast" => Some(cast(node, first)?),
        "Transpose" => Some(transposed(node, first)?),
        "Expand" => Some(match first.fill() {
            Some(value) => Constant::Fill(value),
            None => Constant::Shape,
        }),
        // The same numbers in another shape are the same axes or the same size.
        "Reshape" | "Squeeze" | "Unsqueeze" if first.ints().is_some() => Some(first),
        name if ARITHMETIC.contains(&name) => {
            for index in 1..node.input.len() {
                if node.input.get(index).is_some_and(|name| !name.is_empty())
                    && constant(index)?.is_none()
                {
                    return Ok(None);
                }
            }
            Some(Constant::Shape)
        }
        _ => None,
    })
}

/// The value of a `Constant` node.
fn literal(node: &NodeProto) -> Result<Constant<'_>, OnnxError> {
    let attributes = Attributes(node);
    if let Some(tensor) = attributes
        .get("value")
        .and_then(|attribute| attribute.t.as_deref())
    {
        return Ok(Constant::Stored {
            tensor,
            transposed: false,
        });
    }
    if let Some(number) = attributes.get("value_float") {
        return Ok(Constant::Fill(number.f()));
    }
    if let Some(numbers) = attributes.ints("value_ints") {
        return Ok(Constant::Ints(numbers));
    }
    if attributes.get("value_int").is_some() {
        return Ok(Constant::Shape);
    }
    Err(refuse(
        node,
        "a constant that is neither numbers nor a tensor",
    ))
}

/// Stored half-precision weights become f32, which loses nothing; the other way round would.
fn cast<'a>(node: &NodeProto, constant: Constant<'a>) -> Result<Constant<'a>, OnnxError> {
    let to = DataType::try_from(Attributes(node).int("to", 0) as i32).unwrap_or_default();
    let stored = |tensor: &crate::proto::TensorProto| {
        DataType::try_from(tensor.data_type()).unwrap_or_default()
    };
    match &constant {
        Constant::Stored { tensor, .. }
            if to != stored(tensor) && !matches!(to, DataType::Float | DataType::Double) =>
        {
            match stored(tensor) {
                DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16 => {
                    Err(refuse(node, "it rounds stored weights"))
                }
                _ => Ok(Constant::Shape),
            }
        }
        _ => Ok(constant),
    }
}

fn transposed<'a>(node: &NodeProto, constant: Constant<'a>) -> Result<Constant<'a>, OnnxError> {
    let exchanges = Attributes(node)
        .ints("perm")
        .is_none_or(|order| order == [1, 0]);
    match constant {
        Constant::Stored { tensor, transposed } if exchanges && tensor.dims.len() == 2 => {
            Ok(Constant::Stored {
                tensor,
                transposed: !transposed,
            })
        }
        _ => Err(refuse(node, "it transposes something else than a matrix")),
    }
}
