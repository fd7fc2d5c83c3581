//! `.pth` files that are wrong or hostile in one way each: the message and the exit code of every one.

#[path = "common/pickle.rs"]
mod pickle;

use std::io::Cursor;

use densenet_weights::{WeightsError, pth};
use pickle::{MAGIC, P, legacy, one_tensor, pth as archive, zip_of};
use zip::CompressionMethod;

fn error_of(bytes: &[u8]) -> WeightsError {
    match pth::read_from(&mut Cursor::new(bytes), bytes.len() as u64) {
        Err(error) => error,
        Ok(found) => panic!("read as {found:?}"),
    }
}

fn refuse(bytes: &[u8], expected: &str) {
    refuse_with(bytes, expected, 4);
}

fn refuse_with(bytes: &[u8], expected: &str, exit_code: u8) {
    let error = error_of(bytes);
    let message = error.to_string();
    assert!(
        message.contains(expected),
        "expected `{expected}`, found `{message}`"
    );
    assert_eq!(error.exit_code(), exit_code, "{message}");
    assert!(!message.contains('\n') && message.len() < 600, "{message}");
}

/// A pickle in both forms of file.
fn refuse_pickle(pickle: &P, expected: &str) {
    refuse(&archive(pickle, &[&[0; 16]]), expected);
    refuse(&legacy(pickle, &["0"], &[(4, &[0; 16])]), expected);
}

fn limited(pickle: &P, expected: &str) {
    refuse_with(&archive(pickle, &[]), expected, 7);
    refuse_with(&legacy(pickle, &[], &[]), expected, 7);
}

#[test]
fn the_assembler_makes_good_files() {
    let data: Vec<u8> = [1f32, 2.0, 3.0, 4.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let pickle = one_tensor(4, 1, &[3], &[1]);
    for bytes in [
        archive(&pickle, &[&data]),
        legacy(&pickle, &["0"], &[(4, &data)]),
    ] {
        let found = pth::read_from(&mut Cursor::new(&bytes), bytes.len() as u64).unwrap();
        assert_eq!(found.tensors.get("w").unwrap().data, [2.0, 3.0, 4.0]);
    }
    // Transposed: row-major order of the view, not of the storage.
    let bytes = archive(&one_tensor(4, 0, &[2, 2], &[1, 2]), &[&data]);
    let found = pth::read_from(&mut Cursor::new(&bytes), bytes.len() as u64).unwrap();
    assert_eq!(found.tensors.get("w").unwrap().data, [1.0, 3.0, 2.0, 4.0]);
}

#[test]
fn no_code_is_ever_called() {
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("nt", "system"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "getattr"),
        ("builtins", "__import__"),
        ("__builtin__", "eval"),
        ("runpy", "run_path"),
        ("importlib", "import_module"),
        ("pickle", "loads"),
        ("marshal", "loads"),
        ("shutil", "rmtree"),
        ("socket", "socket"),
        ("webbrowser", "open"),
        ("torch", "load"),
        ("torch.hub", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("torch.storage", "UntypedStorage"),
        ("torch._utils", "_rebuild_sparse_tensor"),
        ("torch._utils", "_rebuild_qtensor"),
        ("torch._utils", "_rebuild_tensor_v3"),
        ("torch._utils", "_rebuild_meta_tensor_no_storage"),
        ("torch._tensor", "_rebuild_from_type_v2"),
        ("torch", "QUInt8Storage"),
        ("torch", "ComplexFloatStorage"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy", "load"),
        ("argparse", "Namespace"),
        ("torchvision.models.densenet", "DenseNet"),
        ("__main__", "Model"),
        ("collections", "ordereddict"),
        ("collections.OrderedDict", "fromkeys"),
        ("", "OrderedDict"),
        ("torch\u{2024}_utils", "_rebuild_tensor_v2"),
    ] {
        let expected = format!("the pickle asks for the Python object `{module}.{name}`");
        let call = |p: P| p.raw(b"(").text("touch /tmp/x").raw(b"tR.");
        refuse_pickle(&call(P::new().global(module, name)), &expected);
        refuse_pickle(
            &call(P::new().text(module).text(name).raw(&[0x93])),
            &expected,
        );
        // Only mentioned, never called: refused all the same.
        refuse_pickle(&P::new().global(module, name).raw(b"0}."), &expected);
    }
    // Newer protocols' short texts, as STACK_GLOBAL comes in practice.
    let stack_global =
        P(vec![0x80, 4]).raw(b"\x95\x10\0\0\0\0\0\0\0\x8c\x02os\x94\x8c\x06system\x94\x93.");
    refuse_pickle(&stack_global, "`os.system`");
}

#[test]
fn objects_are_not_built() {
    for (code, expected) in [
        (&b"(ios\nsystem\n."[..], "builds a Python object"),
        (b"(o.", "builds a Python object"),
        (b"}}}\x92.", "builds a Python object"),
        (b"P0\n.", "weights do not need (0x50)"),
        (b"\x82\x01.", "weights do not need (0x82)"),
        (b"\x83\x01\0.", "weights do not need (0x83)"),
        (b"\x97.", "weights do not need (0x97)"),
        (b"S'x'\n.", "weights do not need (0x53)"),
        (b"I1\n.", "weights do not need (0x49)"),
        (b"F1.0\n.", "weights do not need (0x46)"),
        (b"\xff.", "weights do not need (0xff)"),
        (b"\x8b\xff\xff\xff\x7f.", "weights do not need (0x8b)"),
    ] {
        refuse_pickle(&P::new().raw(code), expected);
    }
}

#[test]
fn the_stack_machine_keeps_its_rules() {
    for (code, expected) in [
        (&b"."[..], "takes a value from its empty stack"),
        (b"0.", "empty stack"),
        (b"2.", "empty stack"),
        (b"a.", "empty stack"),
        (b"s.", "empty stack"),
        (b"R.", "empty stack"),
        (b"b.", "empty stack"),
        (b"Q.", "empty stack"),
        (b"q\0.", "empty stack"),
        (b"\x85.", "empty stack"),
        (b"\x87.", "empty stack"),
        (b"\x93.", "empty stack"),
        (b"(.", "a mark stands where a value is needed"),
        (b"N(0.", "a mark stands"),
        (b"t.", "a mark that it never set"),
        (b"1.", "a mark that it never set"),
        (b"u.", "a mark that it never set"),
        (b"}(NNNu.", "a key without a value"),
        (b"(Nd.", "a key without a value"),
        (b"](NNu.", "an entry is set on a list"),
        (b"NNNs.", "an entry is set on None"),
        (b")NNs.", "an entry is set on a tuple"),
        (
            b"ccollections\nOrderedDict\nNNs.",
            "an entry is set on a function",
        ),
        (b"}Na.", "an item is appended to a dict"),
        (b"K\x01(NNe.", "an item is appended to an integer"),
        (b"N(N\x90.", "members are added to what is no set"),
        (b"N)R.", "the pickle calls None"),
        (b"})R.", "the pickle calls a dict"),
        (
            b"ccollections\nOrderedDict\nNR.",
            "a call's arguments are no tuple",
        ),
        (
            b"ccollections\nOrderedDict\nNN\x86R.",
            "wrong arguments for OrderedDict",
        ),
        (
            b"ccollections\nOrderedDict\nN\x85R.",
            "made of something that is no list",
        ),
        (
            b"ccollections\nOrderedDict\n](NNe\x85R.",
            "entry is no pair",
        ),
        (
            b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
            "wrong arguments for RebuildTensor",
        ),
        (
            b"ctorch._utils\n_rebuild_parameter\nN\x85R.",
            "a parameter is made of None",
        ),
        (
            b"ctorch\nFloatStorage\n)R.",
            "wrong arguments for Storage(F32)",
        ),
        (b"N}b.", "attributes are set on None"),
        (b"h\x05.", "memo 5, which it never stored"),
        (b"j\xff\xff\xff\xff.", "memo 4294967295"),
        (b"NQ.", "a persistent id is no tuple"),
        (b")Q.", "a persistent id has the wrong number of items"),
        (b"(NNNNNtQ.", "a persistent id names no storage"),
        (b"\x80\x06.", "pickle protocol 6 does not exist"),
        (b"NN\x93.", "a name is no text"),
        (b"X\x02\0\0\0\xff\xfeX\x01\0\0\0a\x93.", "a name is no text"),
    ] {
        refuse_pickle(&P::new().raw(code), expected);
    }
}

#[test]
fn cut_off_operands() {
    for code in [
        &b""[..],
        b"J\0\0",
        b"K",
        b"M\0",
        b"G\0",
        b"\x8a",
        b"\x8a\xffx",
        b"X\xff\xff\xff\xffx",
        b"X\x05\0\0\0abc",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffx",
        b"B\xff\xff\xff\x7f",
        b"\x95\xff",
        b"q",
        b"\x80",
    ] {
        refuse(
            &archive(&P::new().raw(code), &[]),
            "the pickle ends early (byte ",
        );
    }
    refuse(&archive(&P::new().raw(b"cos"), &[]), "a name does not end");
    refuse(
        &archive(
            &P::new().raw(&[b"c", &[b'x'; 5000][..], b"\nx\n."].concat()),
            &[],
        ),
        "a name does not end",
    );
    refuse(
        &archive(&P::new().raw(b"}.junk"), &[]),
        "bytes follow the end of its pickle",
    );
}

/// Bombs: each would blow up memory, time or the stack of a reader that clones or recurses.
#[test]
fn bombs_are_met_by_budgets() {
    let start = std::time::Instant::now();
    // Nested tuples of the memo's last entry, doubling: 2⁶⁰ elements if cloned, 60 values here; then once too deep.
    let doubling = |levels: usize| {
        let p = (0..levels).fold(P::new().raw(b"Nq\0"), |p, _| p.raw(b"h\0h\0\x86q\0"));
        p.raw(b".")
    };
    refuse(
        &archive(&doubling(60), &[]),
        "it holds a tuple, not a state dict",
    );
    limited(
        &doubling(100),
        "levels of nesting in the pickle: 65 where at most 64 are allowed",
    );
    // A dict that holds itself, and lists that hold each other.
    refuse(
        &archive(&P::new().raw(b"}q\0X\x01\0\0\0ah\0s."), &[]),
        "it holds no tensors under names",
    );
    refuse(
        &archive(&P::new().raw(b"}q\0X\x0a\0\0\0state_dicth\0s."), &[]),
        "wrapped too many times",
    );
    refuse(
        &archive(&P::new().raw(b"]q\0]q\x01h\0ah\0h\x01a."), &[]),
        "it holds a list, not a state dict",
    );
    // Deep nesting and open marks.
    limited(
        &P::new().raw(&b"(".repeat(1_000_000)),
        "open marks in the pickle",
    );
    limited(
        &P::new().raw(b"N").raw(&b"\x85".repeat(1_000_000)),
        "levels of nesting",
    );
    limited(
        &P::new()
            .raw(b"N")
            .raw(&b"]q\0h\0a".repeat(10))
            .raw(&b"N\x85\x85".repeat(33))
            .raw(&b"\x85".repeat(99)),
        "levels of nesting",
    );
    // Chains of persistent ids.
    refuse(
        &archive(&P::new().raw(b"N").raw(&b"Q".repeat(1_000_000)), &[]),
        "a persistent id is no tuple",
    );
    let chain = (0..3).fold(P::new().storage("FloatStorage", "0", 4), |p, _| p.raw(b"Q"));
    refuse_pickle(&chain, "a persistent id is no tuple");
    // Floods.
    limited(
        &P::new().raw(&b"N".repeat(1_100_000)),
        "values on the pickle's stack",
    );
    limited(
        &P::new().raw(&b"}".repeat(1_100_000)),
        "values in the pickle",
    );
    limited(
        &P::new().raw(&b"}0".repeat(1_100_000)),
        "values in the pickle",
    );
    limited(
        &P::new().raw(b"Nq\0]").raw(&b"h\0a".repeat(4_100_000)),
        "references in the pickle",
    );
    limited(
        &P::new().raw(b"]q\0").raw(&b"h\0a".repeat(65)),
        "levels of nesting",
    );
    limited(
        &P::new().raw(b"Nq\0]").raw(
            &[&b"("[..], &b"h\0".repeat(900_000), b"e"]
                .concat()
                .repeat(5),
        ),
        "references in the pickle",
    );
    let memo: Vec<u8> = (0..1_100_000u32)
        .flat_map(|i| [&b"r"[..], &i.to_le_bytes()].concat())
        .collect();
    limited(
        &P::new().raw(b"N").raw(&memo),
        "entries in the pickle's memo",
    );
    limited(
        &P::new().raw(b"N").raw(&b"\x94".repeat(1_100_000)),
        "entries in the pickle's memo",
    );
    // A long text is a range of the file, however often it is repeated.
    let text = P::new()
        .text(&"x".repeat(1 << 20))
        .raw(b"q\0")
        .raw(&b"h\0\x85\x30".repeat(100_000))
        .raw(b".");
    refuse(&archive(&text, &[]), "it holds a text");
    // Calls that copy their argument.
    let pairs = P::new()
        .raw(b"](")
        .raw(&b"NN\x86".repeat(300_000))
        .raw(b"eq\0");
    let copied = (0..10).fold(pairs, |p, _| {
        p.global("collections", "OrderedDict").raw(b"h\0\x85R0")
    });
    limited(&copied, "in the pickle");
    // Longer than any DenseNet's.
    let long = P::new().raw(&b"N0".repeat(9 << 20)).raw(b"}.");
    refuse_with(
        &archive(&long, &[]),
        "bytes in a record: 18874372 where at most 16777216 are allowed",
        7,
    );
    refuse_with(&legacy(&long, &[], &[]), "bytes of pickle", 7);
    assert!(
        start.elapsed().as_secs() < 60,
        "budgets must keep this short"
    );
}

#[test]
fn views_stay_inside_their_storage() {
    let cases: &[(i64, i64, &[i64], &[i64], &str)] = &[
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
