//! The summary as JSON.

use densenet_weights::ConfigFile;
use serde_json::{Value, json};

use super::Facts;

impl Facts {
    /// `{name, config, params, macs, min_input, input_shape, output_shape, layers, memory}`; shapes are lists with the
    /// batch in front, MACs are for one sample.
    pub fn document(&self) -> Value {
        let architecture = &self.architecture;
        let mut before = self.batched(self.input_shape());
        let layers: Vec<Value> = (0..architecture.layers().len())
            .map(|index| {
                let layer = &architecture.layers()[index];
                let after = self.batched(self.layer_output(index));
                let row = json!({
                    "name": layer.name,
                    "op": layer.op.name(),
                    "input_shape": before,
                    "output_shape": after,
                    "params": self.layer_parameters(index),
                    "macs": self.trace.layers[index].macs,
                });
                before = after;
                row
            })
            .collect();
        json!({
            "name": self.name,
            "config": ConfigFile::from(architecture.config()),
            "params": architecture.num_parameters(),
            "macs": self.trace.macs(),
            "min_input": architecture.min_input()[3 - self.dims()..],
            "input_shape": self.batched(self.input_shape()),
            "output_shape": [self.batch, architecture.config().num_classes],
            "layers": layers,
            "memory": {
                "infer_bytes": self.memory.infer_bytes,
                "train_bytes": self.memory.train_bytes,
                "train_memory_efficient_bytes": self.memory.train_memory_efficient_bytes,
            },
        })
    }

    fn batched(&self, sample: Vec<usize>) -> Vec<usize> {
        [vec![self.batch], sample].concat()
    }
}
