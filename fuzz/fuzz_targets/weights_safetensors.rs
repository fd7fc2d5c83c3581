#![no_main]
//! Any bytes as `.safetensors`: what is read here, the format's own crate reads too.

use densenet_weights::safetensors::read_from;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(found) = read_from(&mut &data[..], data.len() as u64) {
        let theirs = safetensors::SafeTensors::deserialize(data).expect("we are the stricter reader");
        assert_eq!(theirs.len(), found.tensors.len() + found.counters.len());
        for (name, tensor) in found.tensors.iter() {
            assert_eq!(theirs.tensor(name).expect("same names").shape(), tensor.shape);
        }
    }
});
