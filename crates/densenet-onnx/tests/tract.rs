//! What is exported, run in tract and held against our own predictions: every option of the architecture and of the
//! exporter, batches of 1, 2 and 7, two sizes. The presets at their full width are `tools/onnx/check.py`'s.

mod common;

use common::{generated, networks, tiny};
use densenet::{Input, Predictor};
use densenet_onnx::{ExportOptions, NEWEST_OPSET, OLDEST_OPSET, export, import_from};
use densenet_spec::{Architecture, DenseNetConfig, preset};
use densenet_testkit::{channels_last, generate_input};
use densenet_weights::Model;
use tract_onnx::prelude::*;

/// What is allowed: `ATOL + RTOL · |expected|`.
const RTOL: f64 = 1e-4;
const ATOL: f64 = 1e-5;

/// What tract makes of a graph before it runs it.
type Plan = fn(InferenceModel) -> TractResult<TypedModel>;
/// Its own optimiser. With open sizes it takes most of a second for ten layers and 40 for two hundred, arithmetic on names.
const OPTIMISED: Plan = |graph| graph.into_optimized();
const AS_IT_IS: Plan = |graph| graph.into_typed();

/// `exp(z) / Σ exp(z)` for each sample.
fn softmax(logits: &[f32], classes: usize) -> Vec<f32> {
    let rows = logits.chunks_exact(classes);
    rows.flat_map(|row| {
        let sum: f64 = row.iter().map(|&z| f64::from(z).exp()).sum();
        let share = move |&z: &f32| (f64::from(z).exp() / sum) as f32;
        row.iter().map(share)
    })
    .collect()
}

/// Exports, runs, compares.
#[track_caller]
fn hold(name: &str, model: &Model, options: &ExportOptions, plan: Plan) {
    let file = export(model, options).unwrap();
    // Half precision has rounded the weights; what comes back has just these.
    let rounded = options
        .f16
        .then(|| import_from(file.clone()).unwrap().model);
    let config = &model.config;
    let state = &rounded.as_ref().unwrap_or(model).state;
    let predictor = Predictor::new(config, state).unwrap();
    let runnable = tract_onnx::onnx()
        .model_for_read(&mut file.as_slice())
        .and_then(plan)
        .and_then(|graph| graph.into_runnable())
        .unwrap_or_else(|error| panic!("{name}: {error:?}"));
    for spatial in options.spatial.map_or(sizes(config), |size| vec![size]) {
        for batch in options.batch.map_or(vec![1, 2, 7], |batch| vec![batch]) {
            let outer = [batch, config.in_channels];
            let shape = [&outer, &spatial[3 - config.spatial_dims..]].concat();
            let data = generate_input(&shape, 1, batch);
            let input = Tensor::from_shape(&shape, &data).unwrap();
            let found = runnable.run(tvec!(input.into())).unwrap();
            assert_eq!(found[0].shape(), [batch, config.num_classes], "{name}");
            let found = found[0].view().as_slice::<f32>().unwrap().to_vec();
            let input = Input {
                data: &channels_last(&data, &shape),
                batch,
                spatial,
            };
            let mut expected = predictor.run(input).unwrap();
            if options.softmax {
                expected = softmax(&expected, config.num_classes);
            }
            for (at, (&found, &expected)) in found.iter().zip(&expected).enumerate() {
                let error = (f64::from(found) - f64::from(expected)).abs();
                assert!(
                    error <= ATOL + RTOL * f64::from(expected).abs(),
                    "{name} {shape:?}: element {at} is {found}, ours is {expected}"
                );
            }
        }
    }
}

/// Two sizes that no pooling divides, a little above the smallest.
fn sizes(config: &DenseNetConfig) -> Vec<[usize; 3]> {
    let smallest = Architecture::new(config).unwrap().min_input();
    let flat = 3 - config.spatial_dims;
    // The depth of an image is 1.
    let larger = |by: [usize; 3]| {
        std::array::from_fn(|axis| smallest[axis] + if axis < flat { 0 } else { by[axis] })
    };
    vec![larger([3, 4, 7]), larger([5, 2, 0])]
}

/// The published networks' layers, 3 channels each.
#[test]
fn presets_that_are_narrow() {
    for (name, dims, batch) in [
        ("densenet121", 2, None),
        ("densenet121", 3, Some(1)),
        ("densenet264", 2, None),
        ("densenet-40-12", 2, None),
        ("densenet-bc-100-12", 2, None),
    ] {
        let config = DenseNetConfig {
            growth_rate: 3,
            num_init_features: 6,
            num_classes: 5,
            ..preset(name).unwrap().config(dims).unwrap()
        };
        let options = ExportOptions {
            batch,
            ..ExportOptions::default()
        };
        let name = format!("{name}, {dims}-D");
        hold(&name, &generated(&config), &options, AS_IT_IS);
    }
}

#[test]
fn every_option_of_the_architecture() {
    let usual = ExportOptions::default();
    let folded = ExportOptions {
        fold: true,
        ..ExportOptions::default()
    };
    for (name, config) in networks() {
        let model = generated(&config);
        hold(name, &model, &usual, OPTIMISED);
        hold(&format!("{name}, folded"), &model, &folded, AS_IT_IS);
    }
}

#[test]
fn every_option_of_the_exporter() {
    let usual = ExportOptions::default;
    for dims in [2, 3] {
        let model = generated(&tiny(dims));
        let spatial = Some(if dims == 3 { [11, 8, 14] } else { [1, 40, 53] });
        let with = |fold, f16, softmax| ExportOptions {
            fold,
            f16,
            softmax,
            ..usual()
        };
        let sized = |batch, spatial| ExportOptions {
            batch,
            spatial,
            ..usual()
        };
        for options in [
            with(true, false, false),
            with(false, true, false),
            with(false, false, true),
            with(true, true, true),
            sized(Some(2), spatial),
            sized(None, spatial),
            sized(Some(7), None),
        ] {
            hold(
                &format!("{dims}-D, {options:?}"),
                &model,
                &options,
                OPTIMISED,
            );
        }
    }
}

#[test]
fn every_opset() {
    for dims in [2, 3] {
        let model = generated(&tiny(dims));
        for opset in OLDEST_OPSET..=NEWEST_OPSET {
            let options = ExportOptions {
                opset,
                softmax: true,
                ..ExportOptions::default()
            };
            hold(
                &format!("{dims}-D, opset {opset}"),
                &model,
                &options,
                AS_IT_IS,
            );
        }
    }
}
