//! What decoding a file may cost.
//!
//! Two bytes can stand for an empty message that takes hundreds of bytes of memory, and messages nest. So before anything
//! is decoded the file is walked once, without allocating, and what its messages and texts will take is added up.

use std::mem::size_of;

use crate::{
    error::{OnnxError, Problem},
    proto,
};

/// Memory that any file may take, in bytes: a hundred times what the largest published DenseNet's nodes need.
const FREE: u64 = 64 << 20;
/// Memory for each byte of the file beyond that. Packed numbers grow eightfold, real graphs of nodes about as much.
const PER_BYTE: u64 = 16;
/// A DenseNet nests five messages; control flow inside control flow a few more for each level.
const MAX_DEPTH: usize = 48;
/// A text or a slice of the file, and its place in a list.
const TEXT_BYTES: usize = 48;

/// A message of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    ValueInfo,
    Type,
    /// The type of a tensor, dense or sparse.
    TensorType,
    /// The type of a sequence, a map or something optional.
    NestedType,
    Shape,
    Function,
    Training,
    Annotation,
    /// How a node is spread over devices.
    Device,
    Sharding,
    ShardedDim,
    /// Pairs of texts, versions of operators and other messages without messages inside.
    Leaf,
    /// A text, a slice of bytes or packed numbers.
    Text,
}

impl Kind {
    /// What a field that has a length holds.
    fn field(self, number: u64) -> Kind {
        match (self, number) {
            (Kind::Model, 7) => Kind::Graph,
            (Kind::Model, 20) => Kind::Training,
            (Kind::Model, 25) => Kind::Function,
            (Kind::Model, 8 | 14 | 26) => Kind::Leaf,
            (Kind::Training, 1 | 2) => Kind::Graph,
            (Kind::Training, 3 | 4) => Kind::Leaf,
            (Kind::Graph, 1) | (Kind::Function, 7) => Kind::Node,
            (Kind::Graph, 5) => Kind::Tensor,
            (Kind::Graph, 15) => Kind::Sparse,
            (Kind::Graph, 11..=13) | (Kind::Function, 12) => Kind::ValueInfo,
            (Kind::Graph, 14) => Kind::Annotation,
            (Kind::Graph, 16) | (Kind::Function, 9 | 14) => Kind::Leaf,
            (Kind::Annotation, 2) => Kind::Leaf,
            (Kind::Node, 5) | (Kind::Function, 11) => Kind::Attribute,
            (Kind::Node, 9) => Kind::Leaf,
            (Kind::Node, 10) => Kind::Device,
            (Kind::Attribute, 5 | 10) => Kind::Tensor,
            (Kind::Attribute, 6 | 11) => Kind::Graph,
            (Kind::Attribute, 22 | 23) => Kind::Sparse,
            (Kind::Attribute, 14 | 15) => Kind::Type,
            (Kind::Sparse, 1 | 2) => Kind::Tensor,
            (Kind::Tensor, 3 | 13 | 16) => Kind::Leaf,
            (Kind::ValueInfo, 2) => Kind::Type,
            (Kind::ValueInfo, 4) => Kind::Leaf,
            (Kind::Type, 1 | 8) => Kind::TensorType,
            (Kind::Type, 4 | 5 | 9) => Kind::NestedType,
            (Kind::Type, 7) => Kind::Leaf,
            (Kind::TensorType, 2) => Kind::Shape,
            (Kind::NestedType, 1 | 2) => Kind::Type,
            (Kind::Shape, 1) => Kind::Leaf,
            (Kind::Device, 2) => Kind::Sharding,
            (Kind::Sharding, 3) => Kind::Leaf,
            (Kind::Sharding, 4) => Kind::ShardedDim,
            (Kind::ShardedDim, 2) => Kind::Leaf,
            _ => Kind::Text,
        }
    }

    /// Memory that one takes, without what it holds.
    fn bytes(self) -> usize {
        match self {
            Kind::Model => size_of::<proto::ModelProto>(),
            Kind::Graph => size_of::<proto::GraphProto>(),
            Kind::Node => size_of::<proto::NodeProto>(),
            Kind::Attribute => size_of::<proto::AttributeProto>(),
            Kind::Tensor => size_of::<proto::TensorProto>(),
            Kind::Sparse => size_of::<proto::SparseTensorProto>(),
            Kind::ValueInfo => size_of::<proto::ValueInfoProto>(),
            Kind::Type => size_of::<proto::TypeProto>(),
            Kind::TensorType => size_of::<proto::type_proto::Tensor>(),
            Kind::NestedType => size_of::<proto::type_proto::Map>(),
            Kind::Shape => size_of::<proto::TensorShapeProto>(),
            Kind::Function => size_of::<proto::FunctionProto>(),
            Kind::Training => size_of::<proto::TrainingInfoProto>(),
            Kind::Annotation => size_of::<proto::TensorAnnotation>(),
            Kind::Device => size_of::<proto::NodeDeviceConfigurationProto>(),
            Kind::Sharding => size_of::<proto::ShardingSpecProto>(),
            Kind::ShardedDim => size_of::<proto::ShardedDimProto>(),
            Kind::Leaf => size_of::<proto::DeviceConfigurationProto>(),
            Kind::Text => TEXT_BYTES,
        }
    }
}

/// Refuses content whose messages would take far more memory than its length justifies, or that nests too deep.
pub(super) fn check(content: &[u8]) -> Result<(), OnnxError> {
    let limit = FREE + PER_BYTE * content.len() as u64;
    let mut walk = Walk { spent: 0, limit };
    walk.message(Kind::Model, content, 0)
}

struct Walk {
    spent: u64,
    limit: u64,
}

impl Walk {
    fn message(&mut self, kind: Kind, mut content: &[u8], depth: usize) -> Result<(), OnnxError> {
        if depth > MAX_DEPTH {
            return Err(limit(
                "levels of nested messages",
                depth as u64,
                MAX_DEPTH as u64,
            ));
        }
        self.spend(kind.bytes())?;
        while !content.is_empty() {
            let key = varint(&mut content)?;
            match key & 7 {
                0 => {
                    varint(&mut content)?;
                    // A number in a list.
                    self.spend(8)?;
                }
                1 => {
                    take(&mut content, 8)?;
                    self.spend(8)?;
                }
                5 => {
                    take(&mut content, 4)?;
                    self.spend(8)?;
                }
                2 => {
                    let length = varint(&mut content)?;
                    let field = take(&mut content, length)?;
                    match kind.field(key >> 3) {
                        Kind::Text => self.spend(TEXT_BYTES)?,
                        inner => self.message(inner, field, depth + 1)?,
                    }
                }
                other => {
                    return Err(OnnxError::malformed(format!(
                        "a field is of the unknown kind {other}"
                    )));
                }
            }
        }
        Ok(())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), OnnxError> {
        self.spent += bytes as u64;
        if self.spent > self.limit {
            return Err(limit(
                "bytes of memory that its messages take",
                self.spent,
                self.limit,
            ));
        }
        Ok(())
    }
}

fn limit(what: &str, found: u64, limit: u64) -> OnnxError {
    Problem::Limit {
        what: what.to_string(),
        found,
        limit,
        cure: "no network needs that much for its length; check where the file comes from",
    }
    .into()
}

/// A number of one to ten bytes, seven bits in each.
fn varint(content: &mut &[u8]) -> Result<u64, OnnxError> {
    let mut value = 0u64;
    for position in 0..10 {
        let [byte] = take(content, 1)? else { break };
        value |= u64::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(OnnxError::malformed("a number has more than ten bytes"))
}

fn take<'a>(content: &mut &'a [u8], length: u64) -> Result<&'a [u8], OnnxError> {
    let split = usize::try_from(length)
        .ok()
        .and_then(|length| content.split_at_checked(length));
    let Some((taken, rest)) = split else {
        return Err(OnnxError::malformed("it ends in the middle of a field"));
    };
    *content = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field that has a length.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2];
        let mut length = content.len();
        while length > 0x7f {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend_from_slice(content);
        bytes
    }

    #[test]
    fn a_flood_of_empty_nodes_is_refused() {
        let nodes = [0x0a, 0x00].repeat(1 << 20);
        let error = check(&field(7, &nodes)).unwrap_err();
        assert_eq!(error.exit_code(), 7, "{error}");
        assert!(error.to_string().contains("bytes of memory"), "{error}");
        assert!(check(&field(7, &nodes[..1 << 16])).is_ok());
    }

    #[test]
    fn graphs_inside_graphs_end_somewhere() {
        let mut graph = Vec::new();
        for _ in 0..20 {
            graph = field(1, &field(5, &field(6, &graph)));
        }
        let error = check(&field(7, &graph)).unwrap_err();
        assert!(
            error.to_string().contains("levels of nested messages"),
            "{error}"
        );
    }

    #[test]
    fn cut_and_crooked_fields_are_named() {
        for (bytes, part) in [
            (&[0x3a, 0x05, 0x00][..], "middle of a field"),
            (&[0xff; 11][..], "more than ten bytes"),
            (&[0x0b][..], "unknown kind 3"),
            (&[0x08][..], "middle of a field"),
        ] {
            let error = check(bytes).unwrap_err();
            assert_eq!(error.exit_code(), 4);
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
