//! Is the whole file there? What the decoders leave unchecked about the files around the pixels.

/// A JPEG that has its end-of-image marker behind the start of its pictures.
///
/// Without this the decoder would fill what is missing with grey.
///
/// The header's segments are walked to the first scan, so that a thumbnail's end marker inside EXIF does not count;
/// in the scans a byte FF is always followed by 00 unless it starts a marker, so `FF D9` is the real end.
pub(super) fn complete_jpeg(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let cut_off = "the file is cut off: its end marker is missing";
    let mut at = 2;
    loop {
        match (bytes.get(at), bytes.get(at + 1)) {
            (Some(0xFF), Some(0xFF)) => at += 1,
            (Some(0xFF), Some(0xDA)) => break,
            (Some(0xFF), Some(0x01 | 0xD0..=0xD8)) => at += 2,
            (Some(0xFF), Some(_)) => match (bytes.get(at + 2), bytes.get(at + 3)) {
                (Some(&high), Some(&low)) => {
                    at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2)
                }
                _ => return Err(cut_off),
            },
            // Bytes between segments are tolerated by every decoder.
            (Some(_), Some(_)) => at += 1,
            _ => return Err(cut_off),
        }
    }
    match bytes.get(at..) {
        Some(scan) if scan.windows(2).rev().any(|pair| pair == [0xFF, 0xD9]) => Ok(bytes),
        _ => Err(cut_off),
    }
}

/// A WebP whose chunks all lie within the file, without what follows them.
///
/// The decoder allocates what a metadata chunk announces before it looks whether the file has that much: 4 GiB for a
/// file of 200 bytes (found by fuzzing).
pub(super) fn complete_webp(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let cut_off = "the file is cut off, or a chunk of it announces more than there is";
    let size = |at: usize| match bytes.get(at..at.checked_add(4)?) {
        Some(&[a, b, c, d]) => usize::try_from(u32::from_le_bytes([a, b, c, d])).ok(),
        _ => None,
    };
    let end = size(4).and_then(|n| n.checked_add(8)).ok_or(cut_off)?;
    let whole = bytes.get(..end).ok_or(cut_off)?;
    // RIFF, its size, WEBP; then chunks: name, size, content, a byte of padding after an odd number.
    let mut at = 12;
    while at < end {
        let content = size(at + 4).ok_or(cut_off)?;
        let chunk_end = (at + 8)
            .checked_add(content)
            .filter(|&e| e <= end)
            .ok_or(cut_off)?;
        at = chunk_end + content % 2;
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jpegs_end_counts_only_behind_its_scan() {
        // A segment that holds an end marker, as a thumbnail would, then a scan without and with its own.
        let open = [
            0xFF, 0xD8, 0xFF, 0xE1, 0, 4, 0xFF, 0xD9, 0xFF, 0xDA, 0, 2, 1, 2, 3,
        ];
        assert!(complete_jpeg(&open).is_err());
        assert!(complete_jpeg(&[&open[..], &[0xFF, 0xD9]].concat()).is_ok());
        assert!(complete_jpeg(&open[..5]).is_err());
    }

    #[test]
    fn a_webps_chunks_lie_within_it() {
        let file = |riff: u32, chunk: u32| {
            [
                &b"RIFF"[..],
                &riff.to_le_bytes(),
                b"WEBPVP8L",
                &chunk.to_le_bytes(),
                &[1, 2, 3, 4],
            ]
            .concat()
        };
        assert!(complete_webp(&file(16, 4)).is_ok());
        assert!(complete_webp(&file(17, 4)).is_err());
        assert!(complete_webp(&file(16, 5)).is_err());
        assert!(complete_webp(&file(16, u32::MAX)).is_err());
        assert!(complete_webp(&file(u32::MAX, 4)).is_err());
        let longer = [file(16, 4), b"trailing".to_vec()].concat();
        assert_eq!(complete_webp(&longer).map(<[u8]>::len), Ok(24));
    }
}
