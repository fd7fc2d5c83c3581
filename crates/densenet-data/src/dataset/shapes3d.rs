//! The generated data set of volumes: eight kinds of bodies in 28×28×28 voxels, the 3-D twin of the embedded digits.
//!
//! A body has a random pose, size, proportions, brightness and softness of its edges; a part of it is hidden, a haze varies
//! across the volume, and noise lies over everything. Kinds come in pairs that single slices confuse: a sphere and a
//! spheroid shell, a box and a cylinder, a torus and a helix, a cone and a cross of rods.
//!
//! Volume `i` is a function of `i` alone, so the set is the same everywhere and needs no file.

use super::assemble::{Draft, Found, assemble};
use super::{Dataset, Format, OpenOptions, Source, Store};
use crate::decoded::Samples;
use crate::error::DataError;
use crate::random::{Purpose, Stream};
use crate::split::Split;

/// Voxels along each axis.
pub const SIDE: usize = 28;
/// Training and test volumes.
const TRAIN: usize = 1920;
const TEST: usize = 320;
/// The seed the set is generated from.
const SEED: u64 = 0x3D;
const NAMES: [&str; 8] = [
    "ball", "shell", "box", "cylinder", "torus", "helix", "cone", "cross",
];

pub(super) fn open(options: &OpenOptions) -> Result<Dataset, DataError> {
    let count = TRAIN + TEST;
    let mut samples = Vec::with_capacity(count * SIDE * SIDE * SIDE);
    let mut drafts = Vec::with_capacity(count);
    for record in 0..count {
        let class = record % NAMES.len();
        volume(record as u64, class, &mut samples);
        drafts.push(Draft {
            source: Source::Record { store: 0, record },
            class,
            split: Some(if record < TRAIN {
                Split::Train
            } else {
                Split::Test
            }),
            group: None,
        });
    }
    let found = Found {
        name: "shapes3d".to_string(),
        format: Format::Shapes3d,
        classes: NAMES.map(str::to_string).to_vec(),
        ordered: true,
        drafts,
        stores: vec![Store {
            place: "shapes3d".to_string(),
            spatial: [SIDE; 3],
            channels: 1,
            samples: Samples::U8(samples),
        }],
        notes: Vec::new(),
    };
    assemble(found, options)
}

type Vector = [f32; 3];

fn dot(a: Vector, b: Vector) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn length(v: Vector) -> f32 {
    dot(v, v).sqrt()
}

/// A rotation drawn uniformly: a random unit quaternion's matrix.
fn rotation(random: &mut Stream) -> [Vector; 3] {
    // Points in the ball are drawn until one lies within; four tries in five succeed within eight.
    let mut q = [1.0, 0.0, 0.0, 0.0];
    for _ in 0..64 {
        let p = [(); 4].map(|()| random.between(-1.0, 1.0));
        let norm = p.iter().map(|v| v * v).sum::<f32>();
        if (0.01..=1.0).contains(&norm) {
            q = p.map(|v| v / norm.sqrt());
            break;
        }
    }
    let [w, x, y, z] = q;
    [
        [
            1.0 - 2.0 * (y * y + z * z),
            2.0 * (x * y - w * z),
            2.0 * (x * z + w * y),
        ],
        [
            2.0 * (x * y + w * z),
            1.0 - 2.0 * (x * x + z * z),
            2.0 * (y * z - w * x),
        ],
        [
            2.0 * (x * z - w * y),
            2.0 * (y * z + w * x),
            1.0 - 2.0 * (x * x + y * y),
        ],
    ]
}

/// How far `p` lies outside a body of about radius 1; negative within.
///
/// `a` and `b`, in 0..1, vary the proportions. Distances are those of I. Quilez' signed distance functions where these are
/// short, else bounds of them.
fn distance(class: usize, p: Vector, a: f32, b: f32) -> f32 {
    let [x, y, z] = p;
    let ring = (x * x + y * y).sqrt();
    match class {
        0 => length(p) - (0.75 + 0.2 * a),
        // Hollow, with a wall of 0.2 or more.
        1 => (length([x, y, z * (1.0 + 0.3 * b)]) - 0.8).abs() - (0.13 + 0.05 * a),
        2 => {
            let q = [
                x.abs() - 0.85,
                y.abs() - (0.55 + 0.2 * a),
                z.abs() - (0.25 + 0.15 * b),
            ];
            length(q.map(|v| v.max(0.0))) + q[0].max(q[1]).max(q[2]).min(0.0)
        }
        3 => {
            let (side, top) = (ring - (0.28 + 0.14 * a), z.abs() - (0.8 + 0.15 * b));
            length([side.max(0.0), top.max(0.0), 0.0]) + side.max(top).min(0.0)
        }
        4 => length([ring - (0.65 + 0.1 * a), z, 0.0]) - (0.17 + 0.08 * b),
        5 => {
            // The nearest of a wire's turns above and below.
            let pitch = 0.65 + 0.2 * a;
            let turn = y.atan2(x) / std::f32::consts::TAU;
            let off = z / pitch - turn;
            let along = (off - off.round()) * pitch;
            let wire = length([ring - 0.6, along, 0.0]) - (0.15 + 0.05 * b);
            wire.max(z.abs() - 0.95)
        }
        6 => {
            let radius = (0.75 + 0.2 * a) * (0.8 - z) / 1.6;
            (0.85 * (ring - radius)).max(z.abs() - 0.8)
        }
        _ => {
            let thick = 0.18 + 0.1 * a;
            let rod =
                |u: f32, v: f32, w: f32| (u * u + v * v).sqrt().max(w.abs() - 0.9 + thick) - thick;
            rod(y, z, x).min(rod(x, z, y)).min(rod(x, y, z))
        }
    }
}

/// One volume, appended.
fn volume(index: u64, class: usize, out: &mut Vec<u8>) {
    let mut random = Stream::new(SEED, 0, index, Purpose::Shapes);
    let turn = rotation(&mut random);
    let radius = random.between(8.0, 11.0);
    let centre = [(); 3].map(|()| (SIDE as f32 - 1.0) / 2.0 + random.between(-2.5, 2.5));
    let (a, b) = (random.uniform(), random.uniform());
    let bright = random.between(0.35, 0.8);
    let soft = random.between(0.6, 1.6);
    let noise = random.between(0.06, 0.14);
    let haze = [(); 3].map(|()| random.between(-0.006, 0.006));
    let ground = random.between(0.12, 0.25);
    // What lies beyond this plane is hidden: up to a quarter of the body.
    let cover = rotation(&mut random)[0];
    let covered = random.between(0.5, 1.2);
    for d in 0..SIDE {
        for h in 0..SIDE {
            for w in 0..SIDE {
                let p = [
                    w as f32 - centre[0],
                    h as f32 - centre[1],
                    d as f32 - centre[2],
                ];
                let local = turn.map(|row| dot(row, p) / radius);
                let inside = if dot(cover, p) > covered * radius {
                    0.0
                } else {
                    // Blurred by a slope of `soft` voxels in place of a step.
                    (0.5 - distance(class, local, a, b) * radius / soft).clamp(0.0, 1.0)
                };
                // The sum of four uniform numbers is close to a normal one, and the same on every machine.
                let bell: f32 = (0..4).map(|_| random.uniform()).sum::<f32>() - 2.0;
                let value = ground + dot(haze, p) + bright * inside * 0.6 + noise * 1.732 * bell;
                out.push((value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_is_always_the_same() {
        let set = open(&OpenOptions::default()).unwrap();
        assert_eq!(set.len(), TRAIN + TEST);
        assert_eq!(set.classes().len(), 8);
        assert!(set.is_volumes());
        assert!(set.class_counts(Split::Test).iter().all(|&n| n == TEST / 8));
        let volume = set.decode(0).unwrap();
        assert_eq!((volume.spatial(), volume.channels()), ([SIDE; 3], 1));
        assert_eq!(
            set.fingerprint(),
            open(&OpenOptions::default()).unwrap().fingerprint()
        );
    }

    #[test]
    fn bodies_fill_a_part_of_their_volume() {
        for (class, name) in NAMES.iter().enumerate() {
            let inside = (0..20 * 20 * 20)
                .map(|i| [i % 20, i / 20 % 20, i / 400].map(|v| v as f32 / 10.0 - 0.95))
                .filter(|&p| distance(class, p, 0.5, 0.5) < 0.0)
                .count() as f32
                / 8000.0;
            assert!((0.03..0.6).contains(&inside), "{name}: {inside}");
        }
    }
}
