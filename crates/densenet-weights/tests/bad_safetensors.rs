//! `.safetensors` files that are wrong in one way each: the message and the exit code of every one.

mod common;

use common::{model, small_config};
use densenet_weights::{ImportOptions, WeightsError, import, safetensors};

/// A file of this header, padded as the format wants it, and this data.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend(data);
    bytes
}

fn error_of(bytes: &[u8]) -> WeightsError {
    safetensors::read_from(&mut &bytes[..], bytes.len() as u64).expect_err("the file is bad")
}

fn refuse(bytes: &[u8], expected: &str) {
    let error = error_of(bytes);
    let message = error.to_string();
    assert!(
        message.contains(expected),
        "expected `{expected}`, found `{message}`"
    );
    assert_eq!(error.exit_code(), 4, "{message}");
    assert!(!message.contains('\n'), "{message}");
}

fn f32s(count: usize) -> Vec<u8> {
    vec![0; count * 4]
}

#[test]
fn lengths() {
    refuse(b"", "the file has 0 bytes, too few for a header");
    refuse(&[0; 7], "the file has 7 bytes");
    refuse(&0u64.to_le_bytes(), "the header does not start with `{`");
    refuse(
        &u64::MAX.to_le_bytes(),
        "the header claims 18446744073709551615 bytes in a file of 8",
    );
    let mut short = file("{}", b"");
    short.pop();
    refuse(&short, "the header claims 2 bytes in a file of 9");
    refuse(
        &file("{}", b"x"),
        "the header describes 0 bytes of tensors, the file holds 1",
    );
    let trailing = [
        file(
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
            &f32s(1),
        ),
        b"\x80\x02.".to_vec(),
    ];
    refuse(
        &trailing.concat(),
        "the header describes 4 bytes of tensors, the file holds 7",
    );
    let big = (9u64 << 20, vec![b' '; 9 << 20]);
    let error = error_of(&[big.0.to_le_bytes().to_vec(), big.1].concat());
    assert!(
        error
            .to_string()
            .contains("bytes of header: 9437184 where at most 8388608 are allowed"),
        "{error}"
    );
    assert_eq!(error.exit_code(), 7);
}

#[test]
fn json() {
    for (header, expected) in [
        ("[]", "does not start with `{`"),
        (" {}", "does not start with `{`"),
        ("{", "EOF while parsing"),
        ("{}{}", "trailing characters"),
        ("{\"a\":1}", "invalid type: integer `1`"),
        ("{\"a\":null}", "invalid type: null"),
        ("{\"a\":{}}", "missing field `dtype`"),
        (
            r#"{"a":{"dtype":"F32","shape":[1]}}"#,
            "missing field `data_offsets`",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}"#,
            "invalid length 1",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}"#,
            "the header is not valid",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
            "invalid value: integer `-1`",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}"#,
            "floating point `1.5`",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":1,"data_offsets":[0,4]}}"#,
            "expected a sequence",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}"#,
            "unknown field `x`",
        ),
        (
            r#"{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
            "duplicate field `dtype`",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
            "the name `a` appears twice",
        ),
        (
            r#"{"__metadata__":{"x":1}}"#,
            "invalid type: integer `1`, expected a string",
        ),
        (
            r#"{"__metadata__":{"x":"1","x":"2"}}"#,
            "the name `x` appears twice in __metadata__",
        ),
        (
            r#"{"__metadata__":{},"__metadata__":{}}"#,
            "the name `__metadata__` appears twice",
        ),
        (r#"{"a\ud800":{}}"#, "the header is not valid"),
    ] {
        refuse(&file(header, &f32s(1)), expected);
    }
    let mut not_utf8 = file("{\"a\":{}}", b"");
    not_utf8[10] = 0xff;
    refuse(&not_utf8, "the header is not valid");
    refuse(
        &file(&format!("{{\"a\":{}", "[".repeat(100_000)), b""),
        "the header is not valid",
    );
}

#[test]
fn tensors() {
    let one = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"weight":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    for (dtype, shape, offsets, expected) in [
        (
            "F32",
            "[1]",
            "[4,8]",
            "bytes 0..4 belong to no tensor (gap before `weight`)",
        ),
        (
            "F32",
            "[1]",
            "[0,3]",
            "needs 4 bytes, its offsets (0, 3) give another number",
        ),
        (
            "F32",
            "[2]",
            "[0,4]",
            "tensor `weight` of shape [2] and type F32 needs 8 bytes",
        ),
        ("F32", "[1]", "[0,8]", "needs 4 bytes"),
        ("F32", "[1]", "[0,18446744073709551615]", "needs 4 bytes"),
        (
            "F32",
            "[4294967296,4294967296]",
            "[0,4]",
            "the shape of tensor `weight` overflows",
        ),
        (
            "F32",
            "[4194305,4194305,211106198978564]",
            "[0,4]",
            "the shape of tensor `weight` overflows",
        ),
        (
            "F32",
            "[4611686018427387904]",
            "[0,4]",
            "the shape of tensor `weight` overflows",
        ),
        (
            "F32",
            "[0]",
            "[0,0]",
            "tensor `weight` of shape [0] has no elements",
        ),
        (
            "F32",
            "[1,1,1,1,1,1,1,1,1]",
            "[0,4]",
            "tensor `weight` has 9 axes",
        ),
        (
            "F4",
            "[8]",
            "[0,4]",
            "tensor `weight` is stored as F4 — convert it",
        ),
        (
            "F8_E4M3",
            "[4]",
            "[0,4]",
            "tensor `weight` is stored as F8_E4M3",
        ),
        ("f32", "[1]", "[0,4]", "tensor `weight` is stored as f32"),
        (
            "I32",
            "[1]",
            "[0,4]",
            "tensor `weight` holds I32 numbers of shape [1], where weights are floating-point",
        ),
        ("BOOL", "[4]", "[0,4]", "tensor `weight` holds BOOL numbers"),
    ] {
        refuse(&file(&one(dtype, shape, offsets), &f32s(1)), expected);
    }
    let two = |first: &str, second: &str| {
        format!(
            r#"{{"a":{{"dtype":"F32","shape":[1],"data_offsets":{first}}},"b":{{"dtype":"F32","shape":[1],"data_offsets":{second}}}}}"#
        )
    };
    refuse(
        &file(&two("[0,4]", "[2,6]"), &f32s(2)),
        "tensor `b` overlaps the one before it",
    );
    refuse(
        &file(&two("[0,4]", "[0,4]"), &f32s(1)),
        "tensor `b` overlaps the one before it",
    );
    refuse(
        &file(&two("[0,4]", "[8,12]"), &f32s(3)),
        "bytes 4..8 belong to no tensor (gap before `b`)",
    );
    refuse(
        &file(&two("[4,0]", "[0,4]"), &f32s(1)),
        "tensor `a` of shape [1] and type F32 needs 4 bytes",
    );
    // A counter must be one 64-bit integer.
    for (dtype, shape, bytes) in [("I32", "[]", 4), ("I64", "[2]", 16)] {
        let header = format!(
            r#"{{"n.num_batches_tracked":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{bytes}]}}}}"#
        );
        refuse(
            &file(&header, &vec![0; bytes]),
            "where weights are floating-point",
        );
    }
}

#[test]
fn too_many_tensors() {
    let entries: Vec<_> = (0..70_000)
        .map(|i| format!(r#""t{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#))
        .collect();
    let error = error_of(&file(&format!("{{{}}}", entries.join(",")), b""));
    assert!(
        error
            .to_string()
            .contains("tensors in the header: 65537 where at most 65536 are allowed"),
        "{error}"
    );
    assert_eq!(error.exit_code(), 7);
}

#[test]
fn hostile_names_stay_on_one_line() {
    let header = r#"{"a\n\u001b[31mred":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}"#;
    refuse(&file(header, &f32s(1)), "`a\\n\\u{1b}[31mred`");
    let long = format!(
        r#"{{"{}":{{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}}}"#,
        "x".repeat(1 << 20)
    );
    assert!(error_of(&file(&long, &f32s(1))).to_string().len() < 400);
}

#[test]
fn valid_corner_cases_are_read() {
    let read =
        |bytes: Vec<u8>| safetensors::read_from(&mut &bytes[..], bytes.len() as u64).unwrap();
    let scalar = read(file(
        r#"{"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}   "#,
        &1.5f32.to_le_bytes(),
    ));
    assert_eq!(scalar.tensors.get("s").unwrap().data, [1.5]);
    let out_of_order = read(file(
        r#"{"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
        &[1f32.to_le_bytes(), 2f32.to_le_bytes()].concat(),
    ));
    assert_eq!(out_of_order.tensors.get("a").unwrap().data, [1.0]);
    assert_eq!(out_of_order.tensors.get("b").unwrap().data, [2.0]);
    assert_eq!(out_of_order.metadata["k"], "v");
    assert!(read(file("{}", b"")).tensors.is_empty());
}

/// The network's own errors, through `import` with a path.
#[test]
fn networks_that_are_not_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let good = folder.path().join("good.safetensors");
    densenet_weights::export(&model(&small_config()), &good, None).unwrap();
    let bytes = std::fs::read(&good).unwrap();
    let theirs = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let changed = |change: &dyn Fn(&str) -> Option<String>| {
        let kept: Vec<_> = theirs
            .iter()
            .filter_map(|(name, view)| Some((change(name)?, view)))
            .collect();
        std::fs::write(&path, ::safetensors::serialize(kept, None).unwrap()).unwrap();
        let error = import(&path, &ImportOptions::default()).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        let message = error.to_string();
        assert!(message.starts_with(path.to_str().unwrap()), "{message}");
        message
    };
    let without =
        |part: &'static str| changed(&|name| (!name.contains(part)).then(|| name.to_string()));
    let message = without("denseblock1.denselayer2.conv2");
    assert!(
        message.contains("1 missing (features.denseblock1.denselayer2.conv2.weight)"),
        "{message}"
    );
    let message = without("denselayer2.norm");
    assert!(
        message.contains("8 missing (") && message.contains("… 3 more)"),
        "{message}"
    );
    let message = without("features.conv0");
    assert!(
        message.contains(
            "read as torchvision: the first convolution (`features.conv0.weight`) is missing"
        ),
        "{message}"
    );
    let message = without("classifier.weight");
    assert!(
        message.contains("the classifier (`classifier.weight`) is missing"),
        "{message}"
    );
    let message = without("features.denseblock1.denselayer1.conv1.weight");
    assert!(message.contains("first dense layer's conv1"), "{message}");
    let message = without("running_var");
    assert!(
        message.contains("9 missing (features.norm0.running_var"),
        "{message}"
    );
    let message = changed(&|name| Some(name.replace("norm5.bias", "norm5.beta")));
    assert!(
        message.contains("1 missing (features.norm5.bias); 1 surplus (features.norm5.beta)"),
        "{message}"
    );
    let message = changed(&|name| Some(name.replace("denselayer2", "denselayer3")));
    assert!(
        message.contains("missing (features.denseblock1.denselayer2.norm1.weight"),
        "{message}"
    );
    let message = changed(&|name| Some(name.replace("denselayer2", "denselayer4096")));
    assert!(
        message.contains("its 46 tensors cannot be those of 4097 dense layers"),
        "{message}"
    );
    let message = changed(&|name| Some(name.replace("denseblock2", "denseblock33")));
    assert!(
        message.contains("there is a dense block number 33"),
        "{message}"
    );
    let message = changed(&|name| Some(format!("encoder.{name}")));
    assert!(
        message.contains("named as in none of the known dialects"),
        "{message}"
    );
    let message = changed(&|name| (name == "classifier.bias").then(|| name.to_string()));
    assert!(message.contains("the first convolution"), "{message}");
    let message = changed(&|_| None);
    assert!(
        message.contains("none of the known dialects") || message.contains("no tensors"),
        "{message}"
    );
}

#[test]
fn weights_that_are_not_finite_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.safetensors");
    densenet_weights::export(&model(&small_config()), &good, None).unwrap();
    let bytes = std::fs::read(&good).unwrap();
    for (value, shown) in [
        (f32::NAN, "NaN"),
        (f32::INFINITY, "inf"),
        (f32::NEG_INFINITY, "-inf"),
    ] {
        let mut changed = bytes.clone();
        let last = changed.len() - 4;
        changed[last..].copy_from_slice(&value.to_le_bytes());
        std::fs::write(&good, changed).unwrap();
        let error = import(&good, &ImportOptions::default()).unwrap_err();
        let expected = format!("tensor `classifier.bias` holds {shown} at element 2");
        assert!(error.to_string().contains(&expected), "{error}");
        assert_eq!(error.exit_code(), 4);
    }
}

#[test]
fn paths_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.safetensors");
    let error = import(&missing, &ImportOptions::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("missing.safetensors: cannot open: "),
        "{error}"
    );
    assert!(error.to_string().ends_with("— check the path"), "{error}");
    assert_eq!(error.exit_code(), 5);
    let error = import(folder.path(), &ImportOptions::default()).unwrap_err();
    assert!(
        error.to_string().contains("name a file, not a folder"),
        "{error}"
    );
    assert_eq!(error.exit_code(), 5);
    let empty = folder.path().join("empty.pth");
    std::fs::write(&empty, b"").unwrap();
    let error = import(&empty, &ImportOptions::default()).unwrap_err();
    assert!(error.to_string().contains("the file is empty"), "{error}");
    assert_eq!(error.exit_code(), 4);
    #[cfg(unix)]
    {
        let error = import("/dev/null".as_ref(), &ImportOptions::default()).unwrap_err();
        assert!(
            error.to_string().contains("it is no regular file"),
            "{error}"
        );
    }
}
