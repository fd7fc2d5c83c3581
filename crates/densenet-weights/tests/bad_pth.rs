//! `.pth` files whose archive, storages or tensors are wrong in one way each: the message and the exit code of every one.

#[path = "common/pickle.rs"]
mod pickle;

use std::io::Cursor;

use densenet_weights::pth;
use pickle::{
    MAGIC, P, error_of, legacy, one_tensor, pth as archive, refuse, refuse_pickle, refuse_with,
    zip_of,
};
use zip::CompressionMethod;

#[test]
fn archives_are_unambiguous() {
    let pickle = one_tensor(4, 0, &[4], &[1]);
    let data: &[u8] = &[0; 16];
    let records = [("a/data.pkl", pickle.0.as_slice()), ("a/data/0", data)];
    let stored = |records: &[(&str, &[u8])]| zip_of(records, CompressionMethod::Stored);
    let good = stored(&records);
    assert!(pth::read_from(&mut Cursor::new(&good), good.len() as u64).is_ok());

    refuse(&stored(&[]), "the archive is empty");
    refuse(
        &stored(&[("readme.txt", b"x")]),
        "a zip archive without data.pkl",
    );
    refuse(
        &stored(&[records[0], records[1], ("b/data.pkl", b"x")]),
        "more than one data.pkl",
    );
    refuse(
        &stored(&[("a/mydata.pkl", &pickle.0)]),
        "a zip archive without data.pkl",
    );
    refuse(
        &stored(&[records[0], records[1], ("a/constants.pkl", b"x")]),
        "it is a TorchScript program",
    );
    refuse(
        &stored(&[records[0], records[1], ("a/byteorder", b"big")]),
        "big-endian machine",
    );
    refuse_with(
        &stored(&[records[0], records[1], ("a/byteorder", &[b'x'; 100])]),
        "bytes in a record",
        7,
    );
    // A second record of the same name: written under another name of the same length, then renamed in both places.
    let mut doubled = stored(&[records[0], records[1], ("a/data/1", data)]);
    while let Some(at) = doubled.windows(8).position(|w| w == b"a/data/1") {
        doubled[at + 7] = b'0';
    }
    refuse(&doubled, "the archive is not sound");
    // One changed byte: in a record's content (checksum), and in one of its two headers (name, size, flags, method).
    let changed = |needle: &[u8], nth: usize, offset: isize, bits: u8| {
        let mut bytes = good.clone();
        let at = bytes
            .windows(needle.len())
            .enumerate()
            .filter(|(_, w)| *w == needle)
            .nth(nth)
            .unwrap()
            .0;
        bytes[(at as isize + offset) as usize] ^= bits;
        bytes
    };
    refuse(&changed(&[0; 16], 0, 3, 1), "Invalid checksum");
    refuse(&changed(b"FloatStorage", 0, 0, 1), "");
    refuse(&changed(b"a/data.pkl", 0, 0, 1), "the archive is not sound");
    for (offset, field) in [
        (6, "flags"),
        (8, "method"),
        (14, "crc"),
        (18, "size"),
        (22, "size"),
        (26, "name length"),
    ] {
        let message = error_of(&changed(b"PK\x03\x04", 0, offset, 1)).to_string();
        assert!(
            message.contains("the archive is not sound") || message.contains("ends early"),
            "{field}: {message}"
        );
    }
    for (offset, field) in [
        (8, "flags"),
        (10, "method"),
        (16, "crc"),
        (20, "size"),
        (24, "size"),
        (42, "place"),
    ] {
        let error = error_of(&changed(b"PK\x01\x02", 0, offset, 1));
        assert_eq!(error.exit_code(), 4, "{field}: {error}");
    }
    // Bytes in front of an archive, behind it, and between its records.
    let mut shifted = b"PK\x03\x04".to_vec();
    shifted.extend(&good);
    let error = error_of(&shifted);
    assert_eq!(error.exit_code(), 4, "{error}");
    refuse(&good[..good.len() - 1], "");
    refuse(&good[..good.len() / 2], "");
}

#[test]
fn compressed_bombs_are_refused_before_they_unpack() {
    let zeros = vec![0; 64 << 20];
    let pickle = one_tensor(16 << 20, 0, &[16 << 20], &[1]);
    let bomb = zip_of(
        &[("a/data.pkl", &pickle.0), ("a/data/0", &zeros)],
        CompressionMethod::Deflated,
    );
    assert!(bomb.len() < 100_000);
    refuse_with(&bomb, "bytes in the unpacked archive", 7);
}

#[test]
fn old_files_keep_their_order() {
    let pickle = one_tensor(4, 0, &[4], &[1]);
    let data: &[u8] = &[0; 16];
    refuse(
        &P::new().raw(b"}.").0,
        "it is a pickle that torch.save did not write",
    );
    refuse(
        &[MAGIC, b"\x80\x02K\x01."].concat(),
        "the version of its format is unknown",
    );
    refuse(
        &[MAGIC, b"\x80\x02M\xe9\x03.", b"\x80\x02N."].concat(),
        "the description of its machine is no dict",
    );
    let big = P::new()
        .raw(b"}")
        .text("little_endian")
        .raw(&[0x89])
        .raw(b"s.");
    refuse(
        &[MAGIC, b"\x80\x02M\xe9\x03.", &big.0].concat(),
        "big-endian machine",
    );
    refuse(MAGIC, "the pickle ends early");
    refuse(
        &legacy(&pickle, &["0"], &[(5, &[0; 20])]),
        "a storage has 5 elements where its tensor says 4",
    );
    refuse(&legacy(&pickle, &["0"], &[(4, &[0; 15])]), "it ends early");
    refuse(&legacy(&pickle, &["0"], &[]), "it ends early");
    refuse(
        &legacy(&pickle, &["0"], &[(4, &[0; 17])]),
        "1 bytes follow its last storage",
    );
    refuse(
        &legacy(&pickle, &[], &[]),
        "the storage of tensor `w` is missing",
    );
    refuse(
        &legacy(&pickle, &["1"], &[(4, data)]),
        "a storage that no tensor uses",
    );
    refuse(
        &legacy(&pickle, &["0", "0"], &[(4, data), (4, data)]),
        "it lists a storage twice",
    );
    let huge = one_tensor(i64::MAX / 4, 0, &[1], &[1]);
    refuse(
        &legacy(&huge, &["0"], &[(i64::MAX as u64 / 4, data)]),
        "it ends early",
    );
    let wrapping = one_tensor(i64::MAX, 0, &[1], &[1]);
    refuse(
        &legacy(&wrapping, &["0"], &[(i64::MAX as u64, data)]),
        "overflows",
    );
    let mut keys = legacy(&pickle, &[], &[]);
    keys.truncate(keys.len() - b"\x80\x02](e.".len());
    keys.extend(b"\x80\x02N.");
    refuse(&keys, "its list of storages is no list");
}

#[test]
fn other_files() {
    refuse(b"", "the file is empty");
    refuse(b"x", "it starts neither as a zip archive nor as a pickle");
    refuse(b"\x1f\x8b\x08\0", "the file is compressed with gzip");
    refuse(
        b"<html>",
        "it starts neither as a zip archive nor as a pickle",
    );
    refuse(
        b"version https://git-lfs.github.com/spec/v1\n",
        "it starts neither as",
    );
    refuse(b"\x89HDF\r\n\x1a\n", "it starts neither as");
    refuse(b"PK\x03\x04", "");
    refuse(b"PK\x05\x06", "the archive is empty");
    refuse(b"\x80", "");
}

#[test]
fn storages_match_their_records() {
    let good = one_tensor(4, 0, &[4], &[1]);
    refuse(
        &archive(&good, &[&[0; 15]]),
        "record `archive/data/0` has 15 bytes where its type and size need 16",
    );
    refuse(
        &archive(&good, &[&[0; 17]]),
        "record `archive/data/0` has 17 bytes",
    );
    refuse(&archive(&good, &[]), "it has no record `archive/data/0`");
    refuse(
        &archive(&one_tensor(i64::MAX, 0, &[1], &[1]), &[&[0; 16]]),
        "the size of a storage overflows",
    );
    refuse(
        &archive(&one_tensor(-1, 0, &[1], &[1]), &[&[0; 16]]),
        "a storage has a negative size",
    );
    for kind in ["IntStorage", "LongStorage", "BoolStorage", "ByteStorage"] {
        let pickle = P::dict_of("w", |p| {
            p.tensor(|p| p.storage(kind, "0", 4), 0, &[4], &[1])
        });
        refuse_pickle(&pickle, "where weights are floating-point");
    }
    let kind = P::dict_of("w", |p| {
        p.tensor(
            |p| {
                p.raw(b"(")
                    .text("storage")
                    .global("collections", "OrderedDict")
                    .text("0")
                    .text("cpu")
                    .long(4)
                    .raw(b"tQ")
            },
            0,
            &[1],
            &[1],
        )
    });
    refuse_pickle(&kind, "a storage's type is none that weights use");
    let key = P::dict_of("w", |p| {
        p.tensor(
            |p| {
                p.raw(b"(")
                    .text("storage")
                    .global("torch", "FloatStorage")
                    .raw(b"N")
                    .text("cpu")
                    .long(4)
                    .raw(b"tQ")
            },
            0,
            &[1],
            &[1],
        )
    });
    refuse_pickle(&key, "a storage's key or size is malformed");
    let view = P::dict_of("w", |p| {
        p.tensor(
            |p| {
                p.raw(b"(")
                    .text("storage")
                    .global("torch", "FloatStorage")
                    .text("0")
                    .text("cpu")
                    .long(4)
                    .ints(&[0])
                    .raw(b"tQ")
            },
            0,
            &[1],
            &[1],
        )
    });
    refuse_pickle(&view, "a storage is a view of another");
    let twice = P::new()
        .raw(b"}")
        .text("a")
        .tensor(|p| p.storage("FloatStorage", "0", 4), 0, &[4], &[1])
        .raw(b"s")
        .text("b")
        .tensor(|p| p.storage("HalfStorage", "0", 4), 0, &[4], &[1])
        .raw(b"s.");
    refuse_pickle(&twice, "described in two ways");
    // The key decides which record is read, and leads nowhere else.
    let escaping = P::dict_of("w", |p| {
        p.tensor(
            |p| p.storage("FloatStorage", "../../etc/passwd", 4),
            0,
            &[4],
            &[1],
        )
    });
    refuse(
        &archive(&escaping, &[&[0; 16]]),
        "it has no record `archive/data/../../etc/passwd`",
    );
}

#[test]
fn views_stay_inside_their_storage() {
    // Elements of the storage, the view's offset, shape and strides.
    type View<'a> = (i64, i64, &'a [i64], &'a [i64], &'a str);
    let cases: &[View<'_>] = &[
        (
            4,
            0,
            &[5],
            &[1],
            "does not lie inside its storage of 4 elements",
        ),
        (4, 1, &[4], &[1], "does not lie inside its storage"),
        (4, 0, &[2, 2], &[3, 1], "does not lie inside its storage"),
        (4, 4, &[1], &[1], "does not lie inside its storage"),
        (4, i64::MAX, &[1], &[1], "does not lie inside its storage"),
        (
            4,
            0,
            &[i64::MAX, 2],
            &[1, 1],
            "does not lie inside its storage",
        ),
        (4, 0, &[2], &[i64::MAX], "does not lie inside its storage"),
        (
            4,
            0,
            &[3, 3],
            &[i64::MAX, i64::MAX],
            "does not lie inside its storage",
        ),
        (4, 0, &[1 << 40], &[0], "does not lie inside its storage"),
        (4, 0, &[5], &[0], "does not lie inside its storage"),
        (4, 3, &[4], &[-1], "negative size, stride or offset"),
        (4, -1, &[1], &[1], "negative size, stride or offset"),
        (4, 0, &[-1], &[1], "negative size, stride or offset"),
        (4, 0, &[2], &[1, 1], "has 1 axes and 2 strides"),
        (4, 0, &[2, 2], &[1], "has 2 axes and 1 strides"),
        (4, 0, &[1; 9], &[1; 9], "has 9 axes and 9 strides"),
        (4, 0, &[0], &[1], "has no elements"),
        (
            0,
            0,
            &[1],
            &[1],
            "does not lie inside its storage of 0 elements",
        ),
    ];
    for (count, offset, shape, stride, expected) in cases {
        refuse_pickle(&one_tensor(*count, *offset, shape, stride), expected);
    }
    refuse_pickle(
        &one_tensor(4, 0, &[1; 65], &[1; 65]),
        "size or stride is no tuple of integers",
    );
    let no_storage = P::dict_of("w", |p| p.tensor(|p| p.raw(b"N"), 0, &[1], &[1]));
    refuse_pickle(&no_storage, "made of something that is no storage");
    let wide = P::dict_of("w", |p| {
        p.global("torch._utils", "_rebuild_tensor_v2")
            .raw(b"(")
            .storage("FloatStorage", "0", 4)
            .raw(b"\x8a\x09\0\0\0\0\0\0\0\0\x01")
            .ints(&[1])
            .ints(&[1])
            .raw(b"tR")
    });
    refuse_pickle(&wide, "a tensor's offset is no integer");
}

/// Many views of one large storage would turn a small file into a lot of memory.
#[test]
fn shared_storages_cannot_multiply() {
    let count = 100_000;
    let first = P::new()
        .raw(b"}")
        .text("first")
        .tensor(
            |p| p.storage("FloatStorage", "0", count).raw(b"q\0"),
            0,
            &[count],
            &[1],
        )
        .raw(b"s");
    let many = (0..50).fold(first, |p, i| {
        p.text(&format!("t{i}"))
            .tensor(|p| p.raw(b"h\0"), 0, &[count], &[1])
            .raw(b"s")
    });
    refuse_with(
        &archive(&many.raw(b"."), &[&vec![0; 400_000]]),
        "bytes in all tensors",
        7,
    );
}

#[test]
fn state_dicts_are_dicts_of_tensors_under_unique_names() {
    for (pickle, expected) in [
        (P::new().raw(b"N."), "it holds None, not a state dict"),
        (P::new().raw(b"}."), "it holds no tensors under names"),
        (
            P::new().int(3).raw(b"."),
            "it holds an integer, not a state dict",
        ),
        (
            P::new()
                .tensor(|p| p.storage("FloatStorage", "0", 4), 0, &[4], &[1])
                .raw(b"."),
            "it holds a tensor, not a state dict",
        ),
        (
            P::dict_of("epoch", |p| p.int(3)),
            "it holds no tensors under names",
        ),
        (
            P::dict_of("model", |p| p.raw(b"}")),
            "it holds no tensors under names",
        ),
        (
            P::new().raw(b"}").int(1).raw(b"Ns."),
            "the state dict has a key that is no text",
        ),
        (
            P::new().raw(b"}X\x02\0\0\0\xff\xfeNs."),
            "the state dict has a key that is no text",
        ),
    ] {
        refuse_pickle(&pickle, expected);
    }
    let storage = |p: P| p.storage("FloatStorage", "0", 4);
    let twice = P::new()
        .raw(b"}")
        .text("w")
        .tensor(storage, 0, &[4], &[1])
        .raw(b"s")
        .text("w")
        .tensor(storage, 0, &[4], &[1])
        .raw(b"s.");
    refuse_pickle(&twice, "the name `w` appears twice");
}
