//! Small volume files made on the spot: NIfTI, DICOM slices, NumPy archives.

use std::io::Write;

use crate::support::Place;

/// A number from 0 to 0.2 that looks random.
fn speckle(seed: u32, i: u32) -> f32 {
    let z = (seed * 7919 + i * 131).wrapping_mul(0x9E37_79B9);
    ((z ^ (z >> 15)) % 1000) as f32 / 5000.0
}

/// A cube of `side` voxels, the fastest axis first: class 0 is bright in the middle, class 1 at the faces.
pub fn cube(side: usize, class: usize, seed: u32) -> Vec<f32> {
    let middle = (side as f32 - 1.0) / 2.0;
    (0..side * side * side)
        .map(|i| {
            let at = [i % side, i / side % side, i / side / side];
            let far = at
                .iter()
                .map(|&v| (v as f32 - middle).abs())
                .fold(0.0, f32::max);
            let inside = far < middle * 0.6;
            f32::from(u8::from(inside == (class == 0))) + speckle(seed, i as u32)
        })
        .collect()
}

/// A NIfTI-1 file of f32 with voxels of a millimetre.
pub fn nifti(sizes: [usize; 3], values: &[f32]) -> Vec<u8> {
    let mut file = header(sizes);
    file.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    file
}

/// Its first 352 bytes.
pub fn header(sizes: [usize; 3]) -> Vec<u8> {
    let mut file = vec![0; 352];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &348i32.to_le_bytes());
    put(40, &3i16.to_le_bytes());
    for (i, n) in sizes.iter().enumerate() {
        put(42 + 2 * i, &(*n as i16).to_le_bytes());
        put(80 + 4 * i, &1f32.to_le_bytes());
    }
    put(70, &16i16.to_le_bytes());
    put(72, &32i16.to_le_bytes());
    put(108, &352f32.to_le_bytes());
    put(344, b"n+1\0");
    file
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// `count` volumes of `side` voxels a side in each of two folders of `scans`.
pub fn scans(place: &Place, side: usize, count: u32) {
    for (class, name) in ["core", "rim"].iter().enumerate() {
        for i in 0..count {
            let bytes = nifti([side; 3], &cube(side, class, 100 * class as u32 + i));
            place.write(&format!("scans/{name}/{i}.nii.gz"), gzip(&bytes));
        }
    }
}

/// What a slice says of itself.
#[derive(Clone, Copy)]
pub struct Slice<'a> {
    pub patient: &'a str,
    pub series: &'a str,
    pub height: f64,
    pub side: usize,
}

/// A DICOM file with one slice, in explicit little endian.
pub fn dicom(slice: Slice<'_>, values: &[f32]) -> Vec<u8> {
    let mut out = vec![0; 128];
    out.extend(b"DICM");
    let mut element = |group: u16, number: u16, vr: &[u8; 2], value: &[u8]| {
        out.extend(group.to_le_bytes());
        out.extend(number.to_le_bytes());
        out.extend(vr);
        let length = value.len() + value.len() % 2;
        if vr == b"OW" {
            out.extend([0, 0]);
            out.extend((length as u32).to_le_bytes());
        } else {
            out.extend((length as u16).to_le_bytes());
        }
        out.extend(value);
        out.extend(std::iter::repeat_n(b' ', length - value.len()));
    };
    let side = (slice.side as u16).to_le_bytes();
    element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1");
    element(0x10, 0x20, b"LO", slice.patient.as_bytes());
    element(0x20, 0xE, b"UI", slice.series.as_bytes());
    element(
        0x20,
        0x32,
        b"DS",
        format!("0\\0\\{}", slice.height).as_bytes(),
    );
    element(0x20, 0x37, b"DS", b"1\\0\\0\\0\\1\\0");
    element(0x28, 0x2, b"US", &1u16.to_le_bytes());
    element(0x28, 0x4, b"CS", b"MONOCHROME2");
    element(0x28, 0x10, b"US", &side);
    element(0x28, 0x11, b"US", &side);
    element(0x28, 0x30, b"DS", b"1\\1");
    for (number, bits) in [(0x100, 16u16), (0x101, 16), (0x102, 15), (0x103, 0)] {
        element(0x28, number, b"US", &bits.to_le_bytes());
    }
    let pixels = values.iter().map(|v| (v * 1000.0) as u16);
    let pixels: Vec<u8> = pixels.flat_map(u16::to_le_bytes).collect();
    element(0x7FE0, 0x10, b"OW", &pixels);
    out
}

/// A folder of slices.
pub fn series(place: &Place, folder: &str, patient: &str, side: usize, values: &[f32]) {
    for (z, plane) in values.chunks(side * side).enumerate() {
        let slice = Slice {
            patient,
            series: "1.2.3",
            height: z as f64,
            side,
        };
        place.write(&format!("{folder}/{z}.dcm"), dicom(slice, plane));
    }
}

/// A NumPy array.
pub fn npy(kind: &str, shape: &[usize], bytes: &[u8]) -> Vec<u8> {
    let sizes: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let mut head = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({sizes}), }}");
    let length = (10 + head.len() + 1).next_multiple_of(64) - 10;
    head.extend(std::iter::repeat_n(' ', length - head.len() - 1));
    head.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((length as u16).to_le_bytes());
    out.extend(head.bytes());
    out.extend(bytes);
    out
}

/// An archive as MedMNIST3D's.
pub fn npz(side: usize, counts: [(&str, usize); 3]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for (split, count) in counts {
        let labels: Vec<u8> = (0..count).map(|i| (i % 2) as u8).collect();
        let seed = split.len() as u32 * 1000;
        let images: Vec<u8> = labels
            .iter()
            .enumerate()
            .flat_map(|(i, &label)| cube(side, label.into(), seed + i as u32))
            .map(|v| (v * 200.0) as u8)
            .collect();
        archive
            .start_file(format!("{split}_images.npy"), options)
            .unwrap();
        let array = npy("|u1", &[count, side, side, side], &images);
        archive.write_all(&array).unwrap();
        archive
            .start_file(format!("{split}_labels.npy"), options)
            .unwrap();
        archive
            .write_all(&npy("|u1", &[count, 1], &labels))
            .unwrap();
    }
    archive.finish().unwrap().into_inner()
}
