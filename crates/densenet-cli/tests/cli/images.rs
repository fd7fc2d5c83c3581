//! Small pictures made on the spot.

use crate::support::Place;

/// A 24-bit BMP of `side` × `side` pixels; `colour(x, y)` gives red, green, blue.
pub fn bmp(side: u32, colour: impl Fn(u32, u32) -> [u8; 3]) -> Vec<u8> {
    assert_eq!(side % 4, 0, "rows are padded to four bytes");
    let pixels = side * side * 3;
    let mut file = b"BM".to_vec();
    for value in [54 + pixels, 0, 54, 40, side, side] {
        file.extend(value.to_le_bytes());
    }
    // One plane, 24 bits; no compression; sizes and colour counts that readers work out.
    file.extend([1, 0, 24, 0]);
    file.extend([0; 24]);
    // Rows from the bottom up, blue first.
    for y in (0..side).rev() {
        for x in 0..side {
            let [red, green, blue] = colour(x, y);
            file.extend([blue, green, red]);
        }
    }
    file
}

/// A number from 0 to 39 that looks random.
fn speckle(seed: u32, x: u32, y: u32) -> u8 {
    let z = (seed * 7919 + x * 131 + y * 65_537).wrapping_mul(0x9E37_79B9);
    ((z ^ (z >> 15)) % 40) as u8
}

/// A folder `photos` with `count` pictures in each of three classes that are easy to tell apart: bright, dark, striped.
pub fn photos(place: &Place, side: u32, count: u32) {
    for i in 0..count {
        let bright = bmp(side, |x, y| [200 + speckle(i, x, y); 3]);
        let dark = bmp(side, |x, y| [speckle(i + 100, x, y); 3]);
        let striped = bmp(side, |x, y| {
            let base = if x / 2 % 2 == 0 { 200 } else { 0 };
            [base + speckle(i + 200, x, y); 3]
        });
        for (class, bytes) in [("bright", bright), ("dark", dark), ("striped", striped)] {
            place.write(&format!("photos/{class}/{i}.bmp"), bytes);
        }
    }
}
