#![no_main]
//! Any text as a configuration: what is accepted survives being written and read again.

use densenet_weights::ConfigFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(file) = serde_json::from_str::<ConfigFile>(text)
        && let Ok(config) = file.complete()
    {
        let written = serde_json::to_string(&ConfigFile::from(&config)).expect("a valid configuration is text");
        let again = serde_json::from_str::<ConfigFile>(&written).expect("our own text");
        assert_eq!(again.complete().expect("our own text"), config);
    }
});
