//! Any text as an augmentation and as preprocessing: what is read is written and read again.
#![no_main]

use densenet_data::{Augmentation, Preprocessing};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(augmentation) = text.parse::<Augmentation>() {
        assert_eq!(augmentation.to_string().parse(), Ok(augmentation));
    }
    if let Ok(value) = serde_json::from_str(text)
        && let Ok(preprocessing) = Preprocessing::from_value(&value)
    {
        assert_eq!(Preprocessing::from_value(&preprocessing.to_value()), Ok(preprocessing));
    }
});
