//! Any bytes as a NumPy array; what is read is written and read again.
#![no_main]

use densenet_data::npy;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(array) = npy::parse("fuzz", bytes) {
        assert_eq!(array.shape.iter().product::<usize>(), array.data.len());
        let written = npy::to_bytes(&array.shape, &array.data).expect("shape and data agree");
        let again = npy::parse("again", &written).expect("our own file");
        assert_eq!(again.shape, array.shape);
        assert!(again.data.iter().zip(&array.data).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
});
