use super::*;
use crate::golden::{golden, values};

const SGD: Rule = Rule::Sgd {
    momentum: 0.9,
    nesterov: true,
    weight_decay: 1e-2,
};
const ADAMW: Rule = Rule::AdamW {
    betas: [0.9, 0.999],
    eps: 1e-8,
    weight_decay: 1e-2,
};

fn rule(name: &str) -> Rule {
    match name {
        "sgd_plain" => Rule::Sgd {
            momentum: 0.0,
            nesterov: false,
            weight_decay: 0.0,
        },
        "sgd_momentum" => Rule::Sgd {
            momentum: 0.9,
            nesterov: false,
            weight_decay: 1e-2,
        },
        "sgd_nesterov" => SGD,
        "adamw" => ADAMW,
        "adamw_betas" => Rule::AdamW {
            betas: [0.8, 0.95],
            eps: 1e-6,
            weight_decay: 0.1,
        },
        other => panic!("the golden file has a case `{other}` that this test does not know"),
    }
}

#[test]
fn ten_steps_agree_with_pytorch() {
    for case in golden().optimizers {
        let mut p = values(1, 24, 1.0);
        let segments = vec![
            Segment {
                range: 0..16,
                decay: true,
            },
            Segment {
                range: 16..24,
                decay: false,
            },
        ];
        let mut optimizer = Optimizer::new(rule(&case.name), segments, 24);
        assert_eq!(case.after.len(), 10);
        for (step, (&lr, expected)) in case.lrs.iter().zip(&case.after).enumerate() {
            // The mean over four samples, as the loop would hand it over.
            let g: Vec<f32> = values(100 + step as u32, 24, 0.5)
                .iter()
                .map(|g| g * 4.0)
                .collect();
            optimizer.step(&mut p, &g, lr, 0.25);
            for (i, (&p, &e)) in p.iter().zip(expected).enumerate() {
                // Each step rounds a handful of operations on numbers of order 1; PyTorch may fuse some of them.
                let tolerance = 8.0 * f32::EPSILON * (step + 1) as f32;
                assert!(
                    (p - e).abs() <= tolerance * e.abs().max(1.0),
                    "{} step {step} [{i}]: {p} {e}",
                    case.name
                );
            }
        }
    }
}

#[test]
fn the_first_step_by_hand() {
    // v = 0.5 + 0.01·2 = 0.52; p = 2 − 0.1·(0.52 + 0.9·0.52)
    let mut p = [2.0];
    Optimizer::new(
        SGD,
        vec![Segment {
            range: 0..1,
            decay: true,
        }],
        1,
    )
    .step(&mut p, &[0.5], 0.1, 1.0);
    assert!((f64::from(p[0]) - (2.0 - 0.1 * 0.52 * 1.9)).abs() < 3e-7);
    // AdamW's first step is lr·sign(g), after the weight has shrunk by lr·weight_decay.
    let mut p = [2.0];
    Optimizer::new(
        ADAMW,
        vec![Segment {
            range: 0..1,
            decay: true,
        }],
        1,
    )
    .step(&mut p, &[-0.5], 0.1, 1.0);
    assert!((f64::from(p[0]) - (2.0 * 0.999 + 0.1)).abs() < 1e-6);
}

#[test]
fn what_lies_between_segments_is_never_touched() {
    for rule in [SGD, ADAMW] {
        let mut p = values(1, 50_000, 1.0);
        let before = p.clone();
        let mut g = values(2, 50_000, 1.0);
        let segments = vec![
            Segment {
                range: 40_000..49_999,
                decay: true,
            },
            Segment {
                range: 10..20_000,
                decay: false,
            },
        ];
        g[5] = f32::NAN;
        g[30_000] = f32::INFINITY;
        let mut optimizer = Optimizer::new(rule, segments, p.len());
        optimizer.step(&mut p, &g, 0.1, 1.0);
        for (i, (a, b)) in p.iter().zip(&before).enumerate() {
            let learned = (10..20_000).contains(&i) || (40_000..49_999).contains(&i);
            assert!(a.is_finite());
            assert!(learned || a == b, "{rule:?} changed element {i}");
        }
        assert!(
            optimizer
                .state()
                .0
                .iter()
                .all(|s| s[..10].iter().chain(&s[20_000..40_000]).all(|&v| v == 0.0))
        );
    }
}

/// Of an arena of 70,001 elements: several chunks, with a gap at the start and one in between.
fn two_segments() -> Vec<Segment> {
    vec![
        Segment {
            range: 3..35_000,
            decay: true,
        },
        Segment {
            range: 35_001..70_001,
            decay: false,
        },
    ]
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let run = |threads: usize, rule| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let mut p = values(1, 70_001, 1.0);
            let mut optimizer = Optimizer::new(rule, two_segments(), p.len());
            for step in 0..3 {
                optimizer.step(&mut p, &values(9 + step, 70_001, 1.0), 0.1, 1.0 / 3.0);
            }
            p.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        })
    };
    for rule in [SGD, ADAMW] {
        let one = run(1, rule);
        for threads in [2, 3, 8] {
            assert!(run(threads, rule) == one, "{rule:?} with {threads} threads");
        }
    }
}

#[test]
fn a_restored_state_carries_on_and_a_foreign_one_is_refused() {
    for rule in [SGD, ADAMW] {
        let segments = vec![Segment {
            range: 0..8,
            decay: true,
        }];
        let mut straight = Optimizer::new(rule, segments.clone(), 8);
        let mut p = values(1, 8, 1.0);
        straight.step(&mut p, &values(2, 8, 1.0), 0.1, 1.0);
        let (state, steps) = straight.state();
        let mut resumed = Optimizer::new(rule, segments, 8);
        resumed.restore(state.to_vec(), steps).unwrap();
        let mut q = p.clone();
        straight.step(&mut p, &values(3, 8, 1.0), 0.1, 1.0);
        resumed.step(&mut q, &values(3, 8, 1.0), 0.1, 1.0);
        assert_eq!(p, q);
        assert!(resumed.restore(vec![vec![0.0; 7]], 1).is_err());
    }
}

#[test]
fn a_step_part_by_part_gives_the_same_bits() {
    for rule in [SGD, ADAMW] {
        let [mut whole, mut parted] = [0; 2].map(|_| Optimizer::new(rule, two_segments(), 70_001));
        let (mut p, mut q) = (values(1, 70_001, 1.0), values(1, 70_001, 1.0));
        for step in 0..3 {
            let g = values(9 + step, 70_001, 1.0);
            whole.step(&mut p, &g, 0.1, 0.5);
            parted.begin();
            for part in [50_000..70_001, 17..50_000, 0..17] {
                let start = part.start;
                assert!(parted.step_part(start, &mut q[part.clone()], &g[part], 0.1, 0.5));
            }
        }
        assert_eq!(p, q, "{rule:?}");
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let before = q[40_000..].to_vec();
            let mut g = values(2, 30_001, 1.0);
            g[29_000] = bad;
            parted.begin();
            assert!(!parted.step_part(40_000, &mut q[40_000..], &g, 0.1, 0.5));
            assert!(q.iter().all(|v| v.is_finite()));
            // The chunk with that element has not moved; the one before has.
            assert_eq!(q[69_000..], before[29_000..]);
            assert_ne!(q[40_000], before[0]);
        }
    }
}
