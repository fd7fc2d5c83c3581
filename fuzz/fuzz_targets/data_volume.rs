//! Any bytes as a volume file, then through every step.
#![no_main]

use densenet_data::volume::decode_volume_bytes;
use densenet_data::{Normalize, Orientation, Preprocessing, VolumeSize, VolumeSteps};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match decode_volume_bytes("fuzz", bytes) {
        Ok(volume) => {
            let preprocessing = Preprocessing {
                volume: Some(VolumeSteps {
                    orientation: Some(Orientation::RAS),
                    normalize: Normalize::Zscore,
                    size: Some(VolumeSize::Resize([8; 3])),
                    ..VolumeSteps::default()
                }),
                ..Preprocessing::plain(volume.channels())
            };
            match preprocessing.apply(&volume) {
                Ok(prepared) => assert_eq!(prepared.data.len(), 512 * prepared.channels),
                Err(error) => assert!(matches!(error.exit_code(), 3 | 7), "{error}"),
            }
        }
        Err(error) => assert!(matches!(error.exit_code(), 3 | 7), "{error}"),
    }
});
