use super::*;
use crate::golden::{golden, values};

fn names(classes: usize) -> Vec<String> {
    (0..classes).map(|c| format!("class{c}")).collect()
}

#[test]
fn losses_and_gradients_agree_with_pytorch() {
    let logits = values(7, 35, 4.0);
    let labels: Vec<u32> = (0..7).map(|i| i * 3 % 5).collect();
    for case in golden().losses {
        let loss = CrossEntropy {
            label_smoothing: case.label_smoothing,
            class_weights: case.class_weights,
        };
        let mut grad = vec![0.0; 35];
        let sum = loss.forward_backward(&logits, &labels, &mut grad);
        assert!(
            (sum.mean() - case.loss).abs() <= 1e-14 * case.loss,
            "{} {}",
            sum.mean(),
            case.loss
        );
        for (&g, e) in grad.iter().zip(&case.grad) {
            // The sum's gradient, rounded to f32 once, over the weight.
            let g = f64::from(g) / sum.weight;
            assert!(
                (g - e).abs() <= f64::from(f32::EPSILON) * e.abs() + 1e-15,
                "{g} {e}"
            );
        }
    }
}

#[test]
fn areas_agree_with_scikit_learn() {
    for case in golden().metrics {
        let logits: Vec<f32> = values(case.seed, case.samples * case.classes, 2.0)
            .iter()
            .map(|v| (v * 4.0).round_ties_even() / 4.0)
            .collect();
        let labels: Vec<u32> = (0..case.samples)
            .map(|i| (i * i % case.classes) as u32)
            .collect();
        let mut scores = Scores::new(CrossEntropy::default(), case.classes);
        for (logits, labels) in logits.chunks(7 * case.classes).zip(labels.chunks(7)) {
            assert!(scores.add(logits, labels));
        }
        let evaluation = scores.finish(&names(case.classes));
        for (class, expected) in evaluation.per_class.iter().zip(&case.auroc) {
            match (class.auroc, expected) {
                (Some(a), Some(b)) => assert!((a - b).abs() < 1e-12, "{}: {a} {b}", class.class),
                (None, None) => assert!(evaluation.auroc_skipped.contains(&class.class)),
                (a, b) => panic!("{}: {a:?} {b:?}", class.class),
            }
        }
        assert!((evaluation.macro_auroc.unwrap() - case.macro_auroc).abs() < 1e-12);
    }
}

#[test]
fn counts_by_hand() {
    let mut scores = Scores::new(CrossEntropy::default(), 2);
    // Predicted 0, 1, 0 (a tie goes to the first class), 1; labels 0, 1, 1, 1.
    assert!(scores.add(&[2.0, 1.0, 0.0, 3.0, 1.0, 1.0], &[0, 1, 1]));
    assert!(scores.add(&[0.0, 9.0], &[1]));
    assert!(!scores.add(&[f32::NAN, 0.0], &[0]));
    let evaluation = scores.finish(&names(2));
    assert_eq!(evaluation.samples, 4);
    assert_eq!(evaluation.accuracy, 0.75);
    assert_eq!(evaluation.confusion, [[1, 0], [1, 2]]);
    assert_eq!(evaluation.top5, None);
    let [zero, one] = evaluation.per_class.as_slice() else {
        panic!("two classes")
    };
    assert_eq!(
        (zero.precision, zero.recall, zero.samples),
        (Some(0.5), Some(1.0), 1)
    );
    assert_eq!(
        (one.precision, one.recall, one.f1),
        (Some(1.0), Some(2.0 / 3.0), Some(0.8))
    );
    assert_eq!(evaluation.probabilities.len(), 8);
    assert_eq!(evaluation.probabilities[4], 0.5);
}

#[test]
fn top5_counts_the_five_highest() {
    let mut scores = Scores::new(CrossEntropy::default(), 7);
    let logits = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0];
    for label in 0..7 {
        scores.add(&logits, &[label]);
    }
    assert_eq!(scores.finish(&names(7)).top5, Some(5.0 / 7.0));
}

#[test]
fn nothing_collected_is_no_crash() {
    let evaluation = Scores::new(CrossEntropy::default(), 3).finish(&names(3));
    assert_eq!(
        (
            evaluation.samples,
            evaluation.accuracy,
            evaluation.macro_auroc
        ),
        (0, 0.0, None)
    );
    assert_eq!(evaluation.auroc_skipped.len(), 3);
}
