//! Pickles that are wrong or hostile in one way each: the message and the exit code of every one.

#[path = "common/pickle.rs"]
mod pickle;

use std::io::Cursor;

use densenet_weights::pth;
use pickle::{P, legacy, one_tensor, pth as archive, refuse, refuse_pickle, refuse_with};

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
