#![no_main]
//! Any bytes as the pickle of an old `.pth` file, behind a good start, so that the stack machine is reached at once.

use std::io::Cursor;

use densenet_weights::pth::read_from;
use libfuzzer_sys::fuzz_target;

/// Magic number, version 1001 and an empty description of the machine.
const START: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";

fuzz_target!(|data: &[u8]| {
    let file = [START, data].concat();
    let _ = read_from(&mut Cursor::new(&file), file.len() as u64);
});
