//! Gradients in evaluation mode against the reference in f64, and what every explanation has to hold.

use std::collections::BTreeMap;

use densenet::{
    Input, Predictor,
    explain::{
        ClassActivation, ExplainError, Gradients, Integration, Occlusion, Score,
        class_activation_map, grad_cam, integrated_gradients, occlusion,
    },
    spec::{Architecture, ConcatOrder, DenseNetConfig, Op, Stem, preset},
    weights::{StateDict, Tensor},
};
use densenet_testkit::{
    Tolerance, assert_close, channels_last, generate_input, generate_parameters,
};

/// A small network that has every kind of layer.
fn config(spatial_dims: usize) -> DenseNetConfig {
    DenseNetConfig {
        growth_rate: 6,
        block_config: vec![2, 3],
        num_init_features: 10,
        num_classes: 5,
        bn_size: 2,
        ..preset("densenet121").unwrap().config(spatial_dims).unwrap()
    }
}

fn variants() -> Vec<(&'static str, DenseNetConfig)> {
    let plain = DenseNetConfig {
        bn_size: 0,
        stem: Stem::small(2),
        concat_order: ConcatOrder::NewOld,
        final_norm: false,
        ..config(2)
    };
    let newest = DenseNetConfig {
        concat_order: ConcatOrder::NewOld,
        ..config(2)
    };
    let no_pool = DenseNetConfig {
        stem: Stem {
            pool: false,
            ..Stem::imagenet(3)
        },
        ..config(3)
    };
    let no_norm = DenseNetConfig {
        stem: Stem {
            norm: false,
            ..Stem::imagenet(2)
        },
        drop_rate: 0.2,
        ..config(2)
    };
    vec![
        ("2-D", config(2)),
        ("3-D", config(3)),
        ("plain, newest first, no final norm", plain),
        ("newest first", newest),
        ("no pool", no_pool),
        ("no stem norm, dropout", no_norm),
    ]
}

struct Case {
    config: DenseNetConfig,
    architecture: Architecture,
    state: StateDict,
    spatial: [usize; 3],
    /// `[batch][channel][pixel]`, and channels-last.
    first: Vec<f32>,
    last: Vec<f32>,
    batch: usize,
}

impl Case {
    fn new(config: &DenseNetConfig, batch: usize) -> Self {
        let architecture = Architecture::new(config).unwrap();
        let mut state = StateDict::new();
        for p in generate_parameters(&architecture, 5) {
            let (shape, data) = (p.shape, p.data);
            state.insert(p.name, Tensor { shape, data });
        }
        let spatial = match config.spatial_dims {
            3 => [13, 17, 15],
            _ => [1, 33, 30],
        };
        let mut shape = vec![batch, config.in_channels];
        shape.extend(&spatial[3 - config.spatial_dims..]);
        let first = generate_input(&shape, 9, 0);
        Case {
            config: config.clone(),
            architecture,
            state,
            spatial,
            last: channels_last(&first, &shape),
            first,
            batch,
        }
    }

    fn predictor(&self) -> Predictor {
        Predictor::new(&self.config, &self.state).unwrap()
    }

    fn input(&self) -> Input<'_> {
        Input {
            data: &self.last,
            batch: self.batch,
            spatial: self.spatial,
        }
    }

    /// Gradients in f64 with every norm on its running statistics.
    fn reference(&self, seeds: &[f32]) -> densenet_reference::Gradients {
        // Dropout does nothing here, so the reference goes without it.
        let config = DenseNetConfig {
            drop_rate: 0.0,
            ..self.config.clone()
        };
        let architecture = Architecture::new(&config).unwrap();
        let wide = |data: &[f32]| data.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let parameters = self.state.iter();
        let parameters = parameters.map(|(name, t)| (name.to_string(), wide(&t.data)));
        let network =
            densenet_reference::Network::new(&architecture, parameters.collect()).unwrap();
        let stages = architecture.stages().iter().map(|s| s.name.clone());
        let training = densenet_reference::Training {
            keep: BTreeMap::new(),
            frozen: stages.collect(),
        };
        let channels = config.in_channels;
        let data = wide(&self.first);
        let images = densenet_reference::Tensor::new(self.batch, channels, self.spatial, data);
        let tape = network.forward_train(&images, &training).unwrap();
        let seeds = wide(seeds);
        let seeds = densenet_reference::Tensor::new(self.batch, config.num_classes, [1; 3], seeds);
        network.backward(&tape, &seeds).unwrap()
    }
}

fn threads<R: Send>(n: usize, work: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
    pool.unwrap().install(work)
}

/// The gradient at the input, and at every norm: a norm's bias has the sum of it over pixels and samples as its gradient.
#[test]
fn gradients_are_those_of_the_reference() {
    for (name, config) in variants() {
        let case = Case::new(&config, 2);
        let seeds = [1.0, 0.0, -0.5, 0.25, 0.0, 0.0, 2.0, 0.0, 0.0, -1.0];
        let expected = case.reference(&seeds);
        let predictor = case.predictor();
        let run = |layer: Option<&str>| {
            let way = Gradients::new(&predictor, &case.state, layer).unwrap();
            way.run(case.input(), &seeds).unwrap()
        };
        let found = run(None);
        let shape: Vec<usize> = [&[case.batch, config.in_channels][..], &case.spatial].concat();
        let input = channels_last(&expected.input.data, &shape);
        let tolerance = Tolerance::of_peak(&input, 2e-5);
        assert_close(&found.data, &input, tolerance, name);
        assert!(found.activation.is_none());
        for layer in case.architecture.layers() {
            if layer.op != Op::BatchNorm {
                continue;
            }
            let found = run(Some(&layer.name));
            let mut sums = vec![0.0f64; layer.c_out];
            for pixel in found.data.chunks_exact(layer.c_out) {
                sums.iter_mut()
                    .zip(pixel)
                    .for_each(|(s, g)| *s += f64::from(*g));
            }
            let expected = &expected.parameters[&format!("{}.bias", layer.name)];
            let tolerance = Tolerance::of_peak(expected, 2e-5);
            assert_close(
                &sums,
                expected,
                tolerance,
                &format!("{name}: {}", layer.name),
            );
            let activation = found.activation.unwrap();
            assert_eq!(activation.shape, found.shape);
        }
    }
}

/// Every name that has a map works; what stands behind the pooling is refused.
#[test]
fn every_layer_before_the_pooling_has_a_gradient() {
    let case = Case::new(&config(2), 1);
    let predictor = case.predictor();
    let pooling = case.architecture.layer("avgpool").unwrap();
    let mut seen = 0;
    for layer in case.architecture.layers() {
        let way = Gradients::new(&predictor, &case.state, Some(&layer.name));
        if layer.stage == pooling.stage {
            let error = way.map(|_| ()).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("global pooling"), "{error}");
            continue;
        }
        let found = way
            .unwrap()
            .run(case.input(), &[0.0, 1.0, 0.0, 0.0, 0.0])
            .unwrap();
        let len: usize = found.shape.iter().product();
        assert_eq!((found.data.len(), found.shape[4]), (len, layer.c_out));
        assert!(found.data.iter().any(|&g| g != 0.0), "{}", layer.name);
        seen += 1;
    }
    assert!(seen > 30);
    let error = Gradients::new(&predictor, &case.state, Some("denseblock9")).map(|_| ());
    assert!(error.unwrap_err().to_string().contains("did you mean"));
    let way = Gradients::new(&predictor, &case.state, None).unwrap();
    assert!(way.run(case.input(), &[1.0]).is_err());
}

#[test]
fn grad_cam_at_the_last_layer_is_the_positive_class_activation_map() {
    for (name, config) in variants() {
        let case = Case::new(&config, 1);
        let predictor = case.predictor();
        let last = match config.final_norm {
            true => "relu5",
            false => "denseblock2",
        };
        for class in 0..config.num_classes {
            let cam = class_activation_map(&predictor, &case.state, case.input(), class).unwrap();
            let found = grad_cam(&predictor, &case.state, case.input(), (last, class)).unwrap();
            let pixels = cam.data.len() as f32;
            let expected: Vec<f32> = cam.data.iter().map(|v| v.max(0.0) / pixels).collect();
            assert_eq!(found.shape, cam.shape);
            let peak = cam.data.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let tolerance = Tolerance::absolute(f64::from(peak / pixels) * 1e-6);
            assert_close(&found.data, &expected, tolerance, name);
        }
    }
}

/// The contributions add up to what separates the input's logit from the baseline's, the better the more steps.
#[test]
fn integrated_gradients_are_complete() {
    for (name, config) in variants() {
        let case = Case::new(&config, 1);
        let predictor = case.predictor();
        let gap = |steps: usize| {
            let baseline = vec![0.1; config.in_channels];
            let options = Integration {
                steps,
                ..Integration::from_baseline(baseline)
            };
            let found =
                integrated_gradients(&predictor, &case.state, case.input(), 3, &options).unwrap();
            assert_eq!(
                found.map().data.len() * config.in_channels,
                found.data.len()
            );
            let change = f64::from(found.logit) - f64::from(found.baseline_logit);
            (found.gap().abs(), change.abs())
        };
        let ((few, _), (many, change)) = (gap(4), gap(200));
        println!("{name}: gap {few} with 4 steps, {many} with 200, change {change}");
        assert!(many < 5e-3 * change.max(0.1), "{name}: {many} of {change}");
        assert!(many <= few + 1e-6, "{name}: {many} {few}");
    }
}

/// By hand: cover, run, compare.
#[test]
fn occlusion_is_the_mean_fall_over_the_boxes_that_cover() {
    for (dims, window, stride) in [(2, [1, 9, 12], [1, 8, 7]), (3, [6, 7, 8], [5, 7, 4])] {
        let case = Case::new(&config(dims), 1);
        let predictor = case.predictor();
        let channels = case.config.in_channels;
        let options = Occlusion {
            window,
            stride,
            baseline: vec![0.5; channels],
            batch: 4,
            score: Score::Logit,
        };
        let whole = predictor.run(case.input()).unwrap()[2];
        let map = occlusion(&predictor, case.input(), 2, &options).unwrap();
        assert_eq!(map.shape, case.spatial);
        let mut expected = vec![(0.0f64, 0u32); map.data.len()];
        let starts = |axis: usize| {
            let last = case.spatial[axis] - window[axis];
            let mut starts: Vec<usize> = (0..)
                .map(|i| i * stride[axis])
                .take_while(|s| *s < last)
                .collect();
            starts.push(last);
            starts
        };
        let [_, height, width] = case.spatial;
        for z in starts(0) {
            for y in starts(1) {
                for x in starts(2) {
                    let inside = |i: usize| {
                        let at = [i / (height * width), i / width % height, i % width];
                        let from = [z, y, x];
                        (0..3).all(|a| (from[a]..from[a] + window[a]).contains(&at[a]))
                    };
                    let mut data = case.last.clone();
                    for (i, pixel) in data.chunks_exact_mut(channels).enumerate() {
                        if inside(i) {
                            pixel.fill(0.5);
                        }
                    }
                    let input = Input {
                        data: &data,
                        ..case.input()
                    };
                    let fall = whole - predictor.run(input).unwrap()[2];
                    for (i, (sum, count)) in expected.iter_mut().enumerate() {
                        if inside(i) {
                            (*sum, *count) = (*sum + f64::from(fall), *count + 1);
                        }
                    }
                }
            }
        }
        let expected: Vec<f64> = expected
            .iter()
            .map(|(s, n)| s / f64::from((*n).max(1)))
            .collect();
        assert_close(
            &map.data,
            &expected,
            Tolerance::of_peak(&expected, 1e-5),
            "occlusion",
        );
    }
}

#[test]
fn the_same_bits_at_any_thread_count() {
    for (name, config) in variants() {
        let case = Case::new(&config, 1);
        let channels = config.in_channels;
        let run = || {
            let (predictor, input) = (case.predictor(), case.input());
            let layer = ("denseblock1.denselayer2", 1);
            let path = Integration {
                steps: 5,
                batch: 2,
                ..Integration::from_baseline(vec![0.0; channels])
            };
            let window = case.spatial.map(|s| s.div_ceil(2));
            let boxes = Occlusion {
                window,
                ..Occlusion::for_size(case.spatial, vec![0.0; channels])
            };
            (
                class_activation_map(&predictor, &case.state, input, 1).unwrap(),
                grad_cam(&predictor, &case.state, input, layer).unwrap(),
                integrated_gradients(&predictor, &case.state, input, 1, &path).unwrap(),
                occlusion(&predictor, input, 1, &boxes).unwrap(),
            )
        };
        let one = threads(1, run);
        for n in [2, 5] {
            assert!(
                threads(n, run) == one,
                "{name}: {n} threads give other bits than one"
            );
        }
    }
}

#[test]
fn what_cannot_be_explained_is_said() {
    let case = Case::new(&config(2), 2);
    let predictor = case.predictor();
    let (state, two) = (&case.state, case.input());
    let one = Input {
        data: &case.last[..case.last.len() / 2],
        batch: 1,
        ..two
    };
    let batch = class_activation_map(&predictor, state, two, 0).unwrap_err();
    assert_eq!(batch.to_string(), "2 samples: one is explained at a time");
    let class = grad_cam(&predictor, state, one, ("norm5", 9)).unwrap_err();
    assert_eq!(
        (class.to_string().as_str(), class.exit_code()),
        ("class 9: the network has 5 classes, counted from 0", 2)
    );
    let mut options = Integration::from_baseline(vec![0.0]);
    let short = integrated_gradients(&predictor, state, one, 0, &options).unwrap_err();
    assert!(matches!(
        short,
        ExplainError::Baseline {
            found: 1,
            channels: 3
        }
    ));
    options = Integration {
        steps: 0,
        ..Integration::from_baseline(vec![0.0; 3])
    };
    let steps = integrated_gradients(&predictor, state, one, 0, &options).unwrap_err();
    assert_eq!(steps.to_string(), "0 steps: a path needs at least one");
    let window = Occlusion {
        window: [1, 40, 4],
        ..Occlusion::for_size(case.spatial, vec![0.0; 3])
    };
    let error = occlusion(&predictor, one, 0, &window).unwrap_err();
    assert_eq!(
        (
            error.exit_code(),
            error.to_string().contains("the box must fit")
        ),
        (2, true)
    );
    let mut broken = state.clone();
    broken.get_mut("classifier.weight").unwrap().data[0] = f32::NAN;
    let error = class_activation_map(&predictor, &broken, one, 0).unwrap_err();
    assert_eq!(error.exit_code(), 6);
    let error = grad_cam(&predictor, &broken, one, ("denseblock1", 0)).unwrap_err();
    assert_eq!(error.exit_code(), 6);
}

/// MONAI's CAM, GradCAM and OcclusionSensitivity and Captum's IntegratedGradients in f64 on the same weights and inputs
/// (`tools/explain/make_golden.py`). Maps are compared over the whole input, so the stretching is held, too.
#[test]
fn monai_and_captum_agree() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/explain.safetensors"
    );
    let golden = densenet::weights::read_weights(path.as_ref())
        .unwrap()
        .tensors;
    let class = 3;
    for (dims, spatial) in [(2, [1, 33, 30]), (3, [17, 21, 18])] {
        let config = config(dims);
        let mut case = Case::new(&config, 1);
        for p in generate_parameters(&case.architecture, 11) {
            let (shape, data) = (p.shape, p.data);
            case.state.insert(p.name, Tensor { shape, data });
        }
        let mut shape = vec![1, config.in_channels];
        shape.extend(&spatial[3 - dims..]);
        case.last = channels_last(&generate_input(&shape, 11, 0), &shape);
        case.spatial = spatial;
        let (predictor, input, state) = (case.predictor(), case.input(), &case.state);
        // Shares of the largest value. Ours and MONAI's occlusion maps are differences of probabilities in f32.
        let compare = |name: &str, found: &[f32], share: f64| {
            let name = format!("{dims}d.{name}");
            let expected = &golden.get(&name).unwrap().data;
            let tolerance = Tolerance::of_peak(expected, share);
            let error = assert_close(found, expected, tolerance, &name).max_error;
            let peak = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            println!("{name}: {:.1e} of the peak", error / f64::from(peak));
        };
        compare("logits", &predictor.run(input).unwrap(), 2e-6);
        let map = class_activation_map(&predictor, state, input, class).unwrap();
        // MONAI adds the classifier's bias at every pixel.
        let head = ClassActivation::new(&case.architecture, state).unwrap();
        let bias = head.bias(class).unwrap();
        let map = map.resized(spatial).data;
        let shifted: Vec<f32> = map.iter().map(|v| v + bias).collect();
        compare("cam", &shifted, 5e-6);
        for layer in [
            "pool0",
            "denseblock1.denselayer1.concat",
            "denseblock1",
            "transition1",
            "denseblock2",
            "norm5",
        ] {
            let map = grad_cam(&predictor, state, input, (layer, class)).unwrap();
            compare(
                &format!("gradcam.{layer}"),
                &map.resized(spatial).data,
                1e-5,
            );
        }
        let boxes = Occlusion {
            window: [[1, 9, 12], [6, 8, 7]][dims - 2],
            stride: [[1, 4, 6], [6, 8, 7]][dims - 2],
            baseline: vec![0.5; config.in_channels],
            batch: 4,
            score: Score::Probability,
        };
        let map = occlusion(&predictor, input, class, &boxes).unwrap();
        compare("occlusion", &map.data, 2e-4);
        let path = Integration {
            steps: 12,
            baseline: vec![0.25; config.in_channels],
            batch: 5,
        };
        let found = integrated_gradients(&predictor, state, input, class, &path).unwrap();
        let expected = channels_last(
            &golden.get(&format!("{dims}d.integrated")).unwrap().data,
            &shape,
        );
        assert_close(
            &found.data,
            &expected,
            Tolerance::of_peak(&expected, 1e-5),
            "integrated",
        );
    }
}
