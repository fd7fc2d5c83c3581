//! The comparator's own tests. Every hole that a comparator is known to have is tried here.

use super::*;

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

fn passes(actual: f64, expected: f64, tolerance: Tolerance) -> bool {
    compare(&[actual], &[expected], tolerance, "x").is_ok()
}

#[test]
fn nan_never_passes() {
    for wide in [
        Tolerance::EXACT,
        Tolerance {
            atol: 1e300,
            rtol: 1.0,
        },
    ] {
        assert!(!passes(NAN, 1.0, wide));
        assert!(!passes(1.0, NAN, wide));
        assert!(!passes(NAN, NAN, wide));
        assert!(!passes(NAN, INF, wide));
    }
}

#[test]
fn an_infinity_passes_only_for_itself() {
    for wide in [
        Tolerance::EXACT,
        Tolerance {
            atol: 1e300,
            rtol: 1.0,
        },
    ] {
        assert!(passes(INF, INF, wide));
        assert!(passes(-INF, -INF, wide));
        assert!(!passes(INF, -INF, wide));
        assert!(!passes(1.0, INF, wide));
        assert!(!passes(INF, 1.0, wide));
        assert!(!passes(f64::MAX, INF, wide));
    }
}

#[test]
fn negatives_are_held_to_their_magnitude() {
    let tight = Tolerance {
        atol: 1e-6,
        rtol: 1e-6,
    };
    assert!(!passes(-5.0, -10.0, tight));
    assert!(!passes(-10.0, -5.0, tight));
    assert!(!passes(5.0, -5.0, tight));
    assert!(passes(-10.0, -10.000001, tight));
}

#[test]
fn an_expected_zero_leaves_only_the_absolute_part() {
    assert!(!passes(
        1e-3,
        0.0,
        Tolerance {
            atol: 0.0,
            rtol: 0.5
        }
    ));
    assert!(!passes(1e-300, 0.0, Tolerance::EXACT));
    assert!(passes(1e-9, 0.0, Tolerance::absolute(1e-8)));
    assert!(passes(-0.0, 0.0, Tolerance::EXACT));
    assert!(!passes(0.0, 1e-3, Tolerance::absolute(1e-4)));
}

#[test]
fn overflowing_differences_do_not_pass() {
    assert!(!passes(f64::MAX, -f64::MAX, Tolerance::absolute(f64::MAX)));
}

#[test]
fn lengths_and_emptiness_are_errors() {
    let none: [f32; 0] = [];
    assert_eq!(
        compare(&[1.0f32], &[1.0f32, 2.0], Tolerance::EXACT, "x"),
        Err(Mismatch::Shape {
            name: "x".into(),
            actual: vec![1],
            expected: vec![2]
        })
    );
    assert!(compare(&none, &[1.0f32], Tolerance::EXACT, "x").is_err());
    assert_eq!(
        compare(&none, &none, Tolerance::EXACT, "x"),
        Err(Mismatch::Empty { name: "x".into() })
    );
    assert!(compare_shapes(&[2, 3], &[3, 2], "x").is_err());
    assert!(compare_shapes(&[2, 3], &[2, 3], "x").is_ok());
}

#[test]
fn a_tolerance_that_is_none_is_an_error() {
    for bad in [NAN, INF, -1.0] {
        assert!(!passes(1.0, 1.0, Tolerance::absolute(bad)));
        assert!(!passes(
            1.0,
            1.0,
            Tolerance {
                atol: 0.0,
                rtol: bad
            }
        ));
        assert!(compare_each(&[1.0], &[1.0], &[bad], "x").is_err());
    }
    assert!(compare_each(&[1.0], &[1.0], &[], "x").is_err());
}

#[test]
fn the_message_names_the_worst_element_and_counts() {
    let error = compare(
        &[1.0f32, 2.5, 3.0, 9.0],
        &[1.0f32, 2.0, 3.0, 4.0],
        Tolerance::absolute(0.25),
        "logits",
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "logits: 2 of 4 elements differ (0 of them non-finite); worst at [3]: 9e0, expected 4e0, off by 5e0, allowed \
         2.5e-1"
    );
    let error = compare(&[9.0, NAN, INF], &[1.0, 1.0, 1.0], Tolerance::EXACT, "x").unwrap_err();
    assert!(
        matches!(
            error,
            Mismatch::Values {
                wrong: 3,
                non_finite: 2,
                index: 1,
                ..
            }
        ),
        "{error}"
    );
    let error = compare(&[2.0, 7.0], &[1.0, 1.0], Tolerance::EXACT, "x").unwrap_err();
    assert!(
        matches!(
            error,
            Mismatch::Values {
                wrong: 2,
                index: 0,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn success_reports_how_close_it_was() {
    let seen = assert_close(&[1.0, 2.5], &[1.0, 2.0], Tolerance::absolute(1.0), "x");
    assert_eq!(
        seen,
        Comparison {
            elements: 2,
            max_error: 0.5,
            max_share: 0.5
        }
    );
    let each = compare_each(&[1.0, 2.5], &[1.0, 2.0], &[0.0, 0.5], "x").unwrap();
    assert_eq!(each.max_share, 1.0);
    assert!(compare_each(&[1.0, 2.5], &[1.0, 2.0], &[0.0, 0.4], "x").is_err());
}

#[test]
#[should_panic(expected = "weights: 1 of 1 elements differ")]
fn assertions_panic_with_the_mismatch() {
    assert_close(&[1.0], &[2.0], Tolerance::EXACT, "weights");
}

#[test]
fn tolerances_are_derived() {
    assert_eq!(
        Tolerance::of_peak(&[1.0f32, -4.0, 2.0], 0.5),
        Tolerance::absolute(2.0)
    );
    assert_eq!(
        Tolerance::of_peak(&[NAN, INF, -3.0], 1.0),
        Tolerance::absolute(3.0)
    );
    assert_eq!(
        Tolerance::dot_product(4.0, 0.5, 3.0),
        Tolerance::absolute(6.0)
    );

    // The bound holds for a real sum: n = 1000 terms of mixed sign, summed in f32 one after the other.
    let (mut sum32, mut sum64, mut sum_abs) = (0.0f32, 0.0f64, 0.0f64);
    for i in 0..1000u32 {
        let (a, b) = ((i as f32 * 0.37).sin(), (i as f32 * 0.11).cos());
        sum32 += a * b;
        sum64 += a as f64 * b as f64;
        sum_abs += (a as f64 * b as f64).abs();
    }
    let tolerance = Tolerance::dot_product(1000.0, f32::EPSILON as f64, sum_abs);
    assert_close(&[sum32], &[sum64], tolerance, "sum");
}
