//! Nodes and the shapes of what they compute.

use densenet_spec::{Architecture, ConcatOrder, Layer, Op, Window};
use densenet_weights::Model;

use super::{ExportOptions, metadata, tensors::Tensors};
use crate::{
    error::OnnxError,
    extent::Extent,
    proto::{
        AttributeProto, GraphProto, NodeProto, ValueInfoProto, tensor_proto::DataType,
        tensor_shape_proto::dimension,
    },
    walk,
};

/// The graph of `model`, a node for each layer of the architecture.
pub(super) fn build(
    architecture: &Architecture,
    model: &Model,
    options: &ExportOptions,
) -> Result<GraphProto, OnnxError> {
    let mut writer = Writer::new(architecture, model, options);
    let input = writer.value_info(&options.input_name, architecture.config().in_channels);
    let layers = architecture.layers();
    let mut index = 0;
    while let Some(layer) = layers.get(index) {
        if walk::opens_dense_layer(architecture, index) {
            writer.trunk = writer.current.clone();
        }
        let norm = walk::norm_behind(architecture, index).filter(|_| options.fold);
        writer.layer(layer, norm.and_then(|norm| layers.get(norm)))?;
        index += if norm.is_some() { 2 } else { 1 };
    }
    writer.finish(input)
}

/// Appends nodes while the map shrinks.
struct Writer<'a> {
    architecture: &'a Architecture,
    options: &'a ExportOptions,
    tensors: Tensors<'a>,
    nodes: Vec<NodeProto>,
    values: Vec<ValueInfoProto>,
    batch: Extent,
    /// The map's `[depth, height, width]`; none from the flattening on.
    spatial: Option<[Extent; 3]>,
    /// The value that the last layer computed.
    current: String,
    /// The value that the current dense layer read.
    trunk: String,
}

impl<'a> Writer<'a> {
    fn new(architecture: &'a Architecture, model: &'a Model, options: &'a ExportOptions) -> Self {
        let spatial = match options.spatial {
            Some(spatial) => spatial.map(Extent::Known),
            None => ["depth", "height", "width"].map(Extent::symbol),
        };
        Writer {
            architecture,
            options,
            tensors: Tensors::new(architecture, model, options.f16),
            nodes: Vec::new(),
            values: Vec::new(),
            batch: options.batch.map_or(Extent::symbol("batch"), Extent::Known),
            spatial: Some(spatial),
            current: options.input_name.clone(),
            trunk: String::new(),
        }
    }

    /// Writes a layer, with the `norm` behind it folded in.
    fn layer(&mut self, layer: &Layer, norm: Option<&Layer>) -> Result<(), OnnxError> {
        match layer.op {
            Op::Conv(window) => {
                let mut inputs = vec![self.current.clone()];
                inputs.extend(self.tensors.conv(layer, norm)?);
                let mut attributes = vec![AttributeProto::int("group", 1)];
                attributes.extend(self.window(&window, true));
                self.shrink(layer, &window)?;
                self.node(layer, "Conv", inputs, attributes);
            }
            Op::BatchNorm => {
                let mut inputs = vec![self.current.clone()];
                inputs.extend(self.tensors.norm(layer)?);
                let config = self.architecture.config();
                let attributes = vec![
                    AttributeProto::float("epsilon", config.bn_eps as f32),
                    // ONNX counts what the old statistics weigh, PyTorch the new batch.
                    AttributeProto::float("momentum", (1.0 - config.bn_momentum) as f32),
                ];
                self.node(layer, "BatchNormalization", inputs, attributes);
            }
            Op::Relu => self.plain(layer, "Relu"),
            Op::MaxPool(window) => {
                let attributes = self.window(&window, true);
                self.shrink(layer, &window)?;
                self.node(layer, "MaxPool", vec![self.current.clone()], attributes);
            }
            Op::AvgPool(window) => {
                let attributes = self.window(&window, false);
                self.shrink(layer, &window)?;
                self.node(layer, "AveragePool", vec![self.current.clone()], attributes);
            }
            Op::Dropout => {}
            Op::Concat => {
                let (old, new) = (self.trunk.clone(), self.current.clone());
                let inputs = match self.architecture.config().concat_order {
                    ConcatOrder::OldNew => vec![old, new],
                    ConcatOrder::NewOld => vec![new, old],
                };
                self.node(
                    layer,
                    "Concat",
                    inputs,
                    vec![AttributeProto::int("axis", 1)],
                );
            }
            Op::GlobalAvgPool => {
                self.spatial = Some([Extent::Known(1); 3]);
                self.plain(layer, "GlobalAveragePool");
                self.spatial = None;
                let inputs = vec![self.current.clone()];
                let axis = vec![AttributeProto::int("axis", 1)];
                self.named_node("/flatten".to_string(), layer.c_out, "Flatten", inputs, axis);
            }
            Op::Linear => {
                let mut inputs = vec![self.current.clone()];
                inputs.extend(self.tensors.linear(layer)?);
                self.node(
                    layer,
                    "Gemm",
                    inputs,
                    vec![AttributeProto::int("transB", 1)],
                );
            }
        }
        Ok(())
    }

    /// A node that reads the current value and has no attributes.
    fn plain(&mut self, layer: &Layer, op_type: &str) {
        self.node(layer, op_type, vec![self.current.clone()], Vec::new());
    }

    fn node(
        &mut self,
        layer: &Layer,
        op_type: &str,
        inputs: Vec<String>,
        attributes: Vec<AttributeProto>,
    ) {
        let name = format!("/{}", layer.name.replace('.', "/"));
        self.named_node(name, layer.c_out, op_type, inputs, attributes);
    }

    /// Appends a node and the one value it computes, which has the same name.
    fn named_node(
        &mut self,
        name: String,
        channels: usize,
        op_type: &str,
        input: Vec<String>,
        attribute: Vec<AttributeProto>,
    ) {
        let (casts, casted) = self.tensors.take_casts();
        self.nodes.extend(casts);
        self.values.extend(casted);
        self.values.push(self.value_info(&name, channels));
        self.nodes.push(NodeProto {
            input,
            output: vec![name.clone()],
            name: Some(name.clone()),
            op_type: Some(op_type.to_string()),
            attribute,
            ..Default::default()
        });
        self.current = name;
    }

    fn window(&self, window: &Window, padded: bool) -> Vec<AttributeProto> {
        let axes = 3 - self.architecture.config().spatial_dims..;
        let sizes = |sizes: &[usize]| sizes.iter().map(|&size| size as i64).collect::<Vec<_>>();
        let mut attributes = vec![
            AttributeProto::ints("kernel_shape", sizes(&window.kernel[axes.clone()])),
            AttributeProto::ints("strides", sizes(&window.stride[axes.clone()])),
        ];
        if padded {
            // Before each axis, then behind each.
            let padding = sizes(&window.padding[axes]);
            attributes.push(AttributeProto::ints(
                "pads",
                [padding.clone(), padding].concat(),
            ));
        }
        attributes
    }

    fn shrink(&mut self, layer: &Layer, window: &Window) -> Result<(), OnnxError> {
        let Some(spatial) = &mut self.spatial else {
            return Ok(());
        };
        for (axis, extent) in spatial.iter_mut().enumerate() {
            *extent = extent.through(window, axis).ok_or_else(|| {
                let what = format!("nothing is left of it at {}", layer.name);
                OnnxError::usage("input", what, "give a larger input")
            })?;
        }
        Ok(())
    }

    /// A value of the current size.
    fn value_info(&self, name: &str, channels: usize) -> ValueInfoProto {
        let axes = 3 - self.architecture.config().spatial_dims..;
        let mut shape: Vec<dimension::Value> =
            vec![self.batch.into(), Extent::Known(channels).into()];
        if let Some(spatial) = self.spatial {
            shape.extend(
                spatial[axes]
                    .iter()
                    .map(|&extent| dimension::Value::from(extent)),
            );
        }
        ValueInfoProto::tensor(name, DataType::Float, shape)
    }

    /// Ends the network, the last value under the name of the output.
    fn finish(mut self, input: ValueInfoProto) -> Result<GraphProto, OnnxError> {
        let config = self.architecture.config();
        if self.options.softmax {
            let inputs = vec![self.current.clone()];
            let axis = vec![AttributeProto::int("axis", 1)];
            self.named_node(
                "/softmax".to_string(),
                config.num_classes,
                "Softmax",
                inputs,
                axis,
            );
        }
        let name = self.options.output().to_string();
        let mut output = self.values.pop().unwrap_or_default();
        output.name = Some(name.clone());
        if let Some(last) = self.nodes.last_mut() {
            last.output = vec![name];
        }
        Ok(GraphProto {
            node: self.nodes,
            name: Some(metadata::graph_name(config)),
            initializer: self.tensors.finish(),
            input: vec![input],
            output: vec![output],
            value_info: self.values,
            ..Default::default()
        })
    }
}
