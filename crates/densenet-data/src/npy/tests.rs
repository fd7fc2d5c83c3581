use super::*;

fn file(header: &str, body: &[u8]) -> Vec<u8> {
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(body);
    out
}

fn array(descr: &str, shape: &str, body: &[u8]) -> Result<Array, DataError> {
    parse(
        "x.npy",
        &file(
            &format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n"),
            body,
        ),
    )
}

#[test]
fn what_is_written_is_read() {
    for shape in [vec![], vec![3], vec![2, 3], vec![1, 2, 1, 3], vec![0, 4]] {
        let n: usize = shape.iter().product();
        let data: Vec<f32> = (0..n).map(|i| i as f32 - 1.5).collect();
        let bytes = to_bytes(&shape, &data).unwrap();
        assert_eq!((bytes.len() - 4 * n) % 64, 0);
        assert_eq!(parse("x", &bytes), Ok(Array { shape, data }));
    }
    assert_eq!(to_bytes(&[2, 2], &[0.0]).unwrap_err().exit_code(), 2);
}

#[test]
fn every_number_type_and_both_byte_orders() {
    for (descr, body) in [
        ("|b1", vec![1, 0]),
        ("|u1", vec![1, 0]),
        ("|i1", vec![1, 0]),
        ("<i2", vec![1, 0, 0, 0]),
        (">i2", vec![0, 1, 0, 0]),
        ("<u2", vec![1, 0, 0, 0]),
        (">u4", vec![0, 0, 0, 1, 0, 0, 0, 0]),
        ("<i4", vec![1, 0, 0, 0, 0, 0, 0, 0]),
        ("<i8", [1i64.to_le_bytes(), 0i64.to_le_bytes()].concat()),
        (">u8", [1u64.to_be_bytes(), 0u64.to_be_bytes()].concat()),
        ("<f2", vec![0x00, 0x3c, 0, 0]),
        (">f2", vec![0x3c, 0x00, 0, 0]),
        ("<f4", [1f32.to_le_bytes(), 0f32.to_le_bytes()].concat()),
        (">f4", [1f32.to_be_bytes(), 0f32.to_be_bytes()].concat()),
        ("<f8", [1f64.to_le_bytes(), 0f64.to_le_bytes()].concat()),
        (">f8", [1f64.to_be_bytes(), 0f64.to_be_bytes()].concat()),
    ] {
        assert_eq!(
            array(descr, "(2,)", &body),
            Ok(Array {
                shape: vec![2],
                data: vec![1.0, 0.0]
            }),
            "{descr}"
        );
    }
    assert_eq!(array("|i1", "(1,)", &[255]).unwrap().data, [-1.0]);
}

#[test]
fn fortran_order_is_turned() {
    let header = "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }";
    assert_eq!(
        parse("x", &file(header, &[1, 4, 2, 5, 3, 6])).unwrap().data,
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    );
}

#[test]
fn faults_are_named() {
    let message = |result: Result<Array, DataError>| result.unwrap_err().to_string();
    assert_eq!(
        message(array("|O", "(2,)", &[])),
        "x.npy: an array of Python objects, a pickle, which can run code when it is read — save it as numbers"
    );
    assert!(message(array("<c8", "(2,)", &[])).contains("numbers of type `<c8`"));
    assert!(message(array("<f4", "(2,)", &[0; 7])).contains("the file has 7 bytes"));
    assert!(message(array("<f4", "(2,)", &[0; 9])).contains("announces [2] numbers of 4 bytes"));
    let absurd = array("<f8", "(4294967296, 4294967296, 2)", &[0; 8]);
    assert!(message(absurd).contains("announces"));
    assert!(message(array("<f8", "(-1,)", &[])).contains("cannot be understood"));
    assert!(message(parse("x", b"hello")).contains("does not begin with"));
    assert!(message(parse("x", b"\x93NUMPY\x09\x00\x00\x00")).contains("version 9"));
    assert!(message(parse("x", b"\x93NUMPY\x01")).contains("cut off"));
    let long = parse("x", b"\x93NUMPY\x02\x00\xff\xff\xff\xff").unwrap_err();
    assert_eq!(long.exit_code(), 7);
    let records = file(
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
        &[0; 4],
    );
    assert!(message(parse("x", &records)).contains("numbers of type `[('a', '<f4')]`"));
}

proptest::proptest! {
    #[test]
    fn damage_never_panics(at in 0usize..200, bit in 0u8..8, cut in 0usize..200) {
        let mut bytes = to_bytes(&[2, 3, 4], &[1.0; 24]).unwrap();
        if let Some(b) = bytes.get_mut(at) {
            *b ^= 1 << bit;
        }
        let _ = parse("x", &bytes);
        bytes.truncate(cut);
        let _ = parse("x", &bytes);
    }
}
