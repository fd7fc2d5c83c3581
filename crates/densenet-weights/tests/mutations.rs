//! Damaged files by the thousand: every prefix, every single bit, and seeded random changes. Whatever comes out is an
//! error with one of the promised codes or a sound result; never a panic, and never for long.

mod common;
#[path = "common/pickle.rs"]
mod pickle;

use std::{
    io::Cursor,
    time::{Duration, Instant},
};

use common::{model, small_config};
use densenet_spec::DenseNetConfig;
use densenet_weights::{ImportOptions, WeightsError, export, import_from, read_weights_from};

/// Small files of every format that is read.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let config = DenseNetConfig {
        growth_rate: 1,
        block_config: vec![1],
        num_init_features: 1,
        bn_size: 1,
        in_channels: 1,
        num_classes: 1,
        ..small_config()
    };
    let model = model(&config);
    let folder = tempfile::tempdir().unwrap();
    let written = |name: &str| {
        let path = folder.path().join(name);
        export(&model, &path, None).unwrap();
        std::fs::read(path).unwrap()
    };
    let saved = folder.path().join("model.safetensors");
    model.save(&saved).unwrap();
    let golden = |name: &str| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/");
        std::fs::read(format!("{path}{name}")).unwrap()
    };
    vec![
        ("model", std::fs::read(saved).unwrap()),
        ("safetensors", written("w.safetensors")),
        ("pth", written("w.pth")),
        ("pth by PyTorch", golden("torchvision+one-storage.pth")),
        (
            "old pth by PyTorch",
            golden("torchvision+one-storage-legacy.pth"),
        ),
    ]
}

/// Reads damaged bytes in full; an error has one of the promised codes and one line.
fn survives(what: &str, bytes: &[u8]) -> Result<(), WeightsError> {
    let start = Instant::now();
    let result = import_from(
        &mut Cursor::new(bytes),
        bytes.len() as u64,
        &ImportOptions::default(),
    );
    if let Err(error) = &result {
        assert!([2, 4, 7].contains(&error.exit_code()), "{what}: {error}");
        let message = error.to_string();
        assert!(!message.contains('\n'), "{what}: {message}");
    }
    // Generous: a loaded machine may stall; what this rules out grows without bound.
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{what} took {:?}",
        start.elapsed()
    );
    let found = result?;
    found.model.check().unwrap();
    Ok(())
}

#[test]
fn samples_are_sound() {
    for (name, bytes) in samples() {
        survives(name, &bytes).unwrap();
    }
}

#[test]
fn every_prefix_is_an_error() {
    for (name, bytes) in samples() {
        for length in 0..bytes.len() {
            let what = format!("{name}, first {length} bytes");
            assert!(survives(&what, &bytes[..length]).is_err(), "{what}");
        }
    }
}

#[test]
fn every_flipped_bit_is_survived() {
    for (name, bytes) in samples() {
        let mut changed = bytes.clone();
        let mut noticed = 0;
        let bits = bytes.len().min(4096) * 8;
        for bit in 0..bits {
            changed[bit / 8] ^= 1 << (bit % 8);
            noticed += usize::from(survives(&format!("{name}, bit {bit}"), &changed).is_err());
            changed[bit / 8] ^= 1 << (bit % 8);
        }
        // A model file and an archive carry checksums; what may pass is padding and metadata that nobody reads.
        if name == "model" {
            assert!(noticed * 100 > bits * 95, "{name}: {noticed} of {bits}");
        }
    }
}

#[test]
fn random_damage_is_survived() {
    let mut seed = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = move |below: usize| {
        // xorshift64*
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        (seed.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % below.max(1)
    };
    for (name, bytes) in samples() {
        for round in 0..2000 {
            let mut changed = bytes.clone();
            for _ in 0..1 + random(4) {
                let at = random(changed.len());
                let length = random(16).min(changed.len() - at);
                match random(6) {
                    0 => changed[at] = random(256) as u8,
                    1 => changed[at..at + length].fill(0xff),
                    2 => drop(changed.drain(at..at + length)),
                    3 => {
                        let piece = changed[at..at + length].to_vec();
                        let to = random(changed.len());
                        changed.splice(to..to, piece);
                    }
                    4 => {
                        let to = random(changed.len() - length);
                        changed.copy_within(at..at + length, to);
                    }
                    _ => changed.truncate(changed.len() - length),
                }
                if changed.is_empty() {
                    changed.push(0);
                }
            }
            let _ = survives(&format!("{name}, round {round}"), &changed);
        }
    }
}

/// Random programs for the pickle machine, past the archive's checksums.
#[test]
fn random_pickles_are_survived() {
    let golden = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/torchvision+one-storage-legacy.pth"
    ))
    .unwrap();
    let mut seed = 7u64;
    let mut random = move |below: usize| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let opcodes = b"(.012NJKMX})]telsudabRQqrhjcUG\x80\x81\x85\x86\x87\x88\x89\x8a\x8c\x8f\x90\x91\x93\x94\x95";
    for _ in 0..5000 {
        let mut program = pickle::P::new();
        for _ in 0..random(60) {
            program = match random(8) {
                0 => program.storage("FloatStorage", "0", 4),
                1 => program.text(["state_dict", "w", "0"][random(3)]),
                2 => program.global("collections", "OrderedDict"),
                3 => program.ints(&[random(5) as i64]),
                4 => program.tensor(|p| p.storage("FloatStorage", "0", 4), 0, &[4], &[1]),
                _ => {
                    program.raw(&[opcodes[random(opcodes.len())], random(4) as u8][..1 + random(2)])
                }
            };
        }
        for file in [
            pickle::pth(&program, &[&[0; 16]]),
            pickle::legacy(&program, &["0"], &[(4, &[0; 16])]),
        ] {
            let _ = read_weights_from(&mut Cursor::new(&file), file.len() as u64);
        }
        // A real pickle with some operations exchanged.
        let mut changed = golden.clone();
        for _ in 0..1 + random(3) {
            changed[random(3000)] = opcodes[random(opcodes.len())];
        }
        let _ = read_weights_from(&mut Cursor::new(&changed), changed.len() as u64);
    }
}
