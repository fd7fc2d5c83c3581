//! The end of a network: pooling over all pixels, the classifier, a softmax.

use super::{Kind, Reader, Source, Value};
use crate::{
    error::OnnxError,
    import::{
        attributes::{Attributes, refuse},
        constants::Constant,
    },
    proto::NodeProto,
};

impl<'a> Reader<'a> {
    /// A fully connected layer.
    pub(super) fn gemm(&self, node: &'a NodeProto) -> Result<Kind<'a>, OnnxError> {
        let attributes = Attributes(node);
        attributes.must_be("transA", 0, 0)?;
        attributes.must_be_one("alpha")?;
        attributes.must_be_one("beta")?;
        let weight = match attributes.int("transB", 0) {
            0 => self.exchanged(node, 1)?,
            _ => self.constant(node, 1)?,
        };
        let bias = self.optional(node, 2)?;
        Ok(Kind::Linear { weight, bias })
    }

    /// The bias of a fully connected layer that has none yet.
    pub(super) fn add_bias(&mut self, node: &'a NodeProto) -> Result<Value<'a>, OnnxError> {
        let misplaced = || refuse(node, "only a classifier's bias is added in a DenseNet");
        let is_constant = |index: usize| {
            let value = node
                .input
                .get(index)
                .and_then(|name| self.values.get(name.as_str()));
            matches!(value, Some(Value::Constant(_)))
        };
        let (maps, added) = if is_constant(0) { (1, 0) } else { (0, 1) };
        if !is_constant(added) {
            return Err(misplaced());
        }
        let (value, added) = (self.channels(node, maps)?, self.constant(node, added)?);
        let [Source::Operation(index)] = *value else {
            return Err(misplaced());
        };
        match self
            .list
            .get_mut(index)
            .map(|operation| &mut operation.kind)
        {
            Some(Kind::Linear { bias, .. }) if bias.is_none() => *bias = Some(added),
            _ => return Err(misplaced()),
        }
        // Without the bias the value is no longer to be had.
        if let Some(name) = node.input.get(maps) {
            self.values.remove(name.as_str());
        }
        Ok(Value::Channels(value))
    }

    /// What comes out of the global pooling, without the axes of size one.
    pub(super) fn flattened(&self, node: &'a NodeProto) -> Result<Value<'a>, OnnxError> {
        let channels = self.channels(node, 0)?;
        let pooled = match channels[..] {
            [Source::Operation(index)] => self
                .list
                .get(index)
                .is_some_and(|op| matches!(op.kind, Kind::GlobalAvgPool)),
            _ => false,
        };
        if !pooled {
            return Err(refuse(
                node,
                "a DenseNet is flattened behind its global average pooling",
            ));
        }
        Ok(Value::Channels(channels))
    }

    pub(super) fn softmax(&mut self, node: &'a NodeProto) -> Result<Value<'a>, OnnxError> {
        let channels = self.channels(node, 0)?;
        let last = self.output.map(Source::Operation);
        if self.softmax || last.is_none() || channels.first().copied() != last {
            return Err(refuse(node, "a softmax can only end a DenseNet"));
        }
        // Before opset 13 it flattened from axis 1 on, which is the same for rows of classes.
        let axis = Attributes(node).int("axis", if self.opset < 13 { 1 } else { -1 });
        if !matches!(axis, 1 | -1) {
            return Err(refuse(
                node,
                format!("it is along axis {axis}, not along the classes"),
            ));
        }
        self.softmax = true;
        Ok(Value::Channels(channels))
    }

    /// Whether a mean is over all spatial axes and nothing else.
    pub(super) fn all_spatial(&self, node: &'a NodeProto) -> Result<(), OnnxError> {
        let axes = match Attributes(node).ints("axes") {
            Some(axes) => Some(axes.to_vec()),
            None => self.optional(node, 1)?.and_then(|axes| axes.ints()),
        };
        let mut axes = axes.unwrap_or_default();
        axes.sort_unstable();
        // The rank is the first convolution's; both spellings of each rank are unmistakable.
        let rank = match self.list.first().map(|operation| &operation.kind) {
            Some(Kind::Conv { weight, .. }) => weight.dims().map_or(0, |dims| dims.len()),
            _ => 0,
        };
        let fits = match rank {
            4 => matches!(axes[..], [2, 3] | [-2, -1]),
            5 => matches!(axes[..], [2, 3, 4] | [-3, -2, -1]),
            _ => false,
        };
        if fits {
            return Ok(());
        }
        Err(refuse(
            node,
            format!("a mean over the axes {axes:?}, not over all pixels"),
        ))
    }

    /// The matrix at an input, its axes exchanged.
    pub(super) fn exchanged(
        &self,
        node: &'a NodeProto,
        index: usize,
    ) -> Result<Constant<'a>, OnnxError> {
        match self.constant(node, index)? {
            Constant::Stored { tensor, transposed } if tensor.dims.len() == 2 => {
                Ok(Constant::Stored {
                    tensor,
                    transposed: !transposed,
                })
            }
            _ => Err(refuse(node, "its weight is no stored matrix")),
        }
    }
}
