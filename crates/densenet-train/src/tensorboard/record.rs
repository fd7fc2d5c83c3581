//! TFRecord: records one after another, each with its length and checksums.
//!
//! ```text
//! length (u64) · masked crc of length (u32) · data · masked crc of data (u32)        little endian
//! masked(crc) = rotate_right(crc, 15) + 0xa282ead8
//! ```
//!
//! # Source
//! TensorFlow, `lib/io/record_writer.h`.

use std::io::{self, Write};

/// Appends one record.
pub(super) fn write(to: &mut impl Write, data: &[u8]) -> io::Result<()> {
    let length = (data.len() as u64).to_le_bytes();
    to.write_all(&length)?;
    to.write_all(&masked(&length).to_le_bytes())?;
    to.write_all(data)?;
    to.write_all(&masked(data).to_le_bytes())
}

/// The checksum CRC-32C, turned so that checksums of checksums do not vanish.
fn masked(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// The records of a file; `None` where a checksum is wrong or the file is cut short.
#[cfg(test)]
pub(super) fn read(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (check, rest) = rest.split_first_chunk::<4>()?;
        let (data, rest) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)?;
        let (data_check, rest) = rest.split_first_chunk::<4>()?;
        let right = u32::from_le_bytes(*check) == masked(length)
            && u32::from_le_bytes(*data_check) == masked(data);
        if !right {
            return None;
        }
        records.push(data.to_vec());
        bytes = rest;
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_damage_is_seen() {
        let mut file = Vec::new();
        for record in [&b"one"[..], b"", b"three"] {
            write(&mut file, record).unwrap();
        }
        let found = read(&file).unwrap();
        assert_eq!(found, [&b"one"[..], b"", b"three"]);
        file[13] ^= 1;
        assert_eq!(read(&file), None);
    }

    /// CRC-32C of 32 zeros, RFC 3720 B.4.
    #[test]
    fn the_checksum_is_the_castagnoli_one() {
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        let turned = 0x8a91_36aa_u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(masked(&[0; 32]), turned);
    }
}
