//! A backward pass that hands over one part's gradient at a time gives the gradients of the one that keeps them all, and
//! parameters that move meanwhile change nothing of what follows.

use std::ops::{ControlFlow, Range};

use densenet::{
    Input, Network, NetworkOptions,
    spec::{Architecture, ConcatOrder, DenseNetConfig, Stem, preset},
    weights::{StateDict, Tensor},
};
use densenet_testkit::{
    Tolerance, assert_close, channels_last, generate_input, generate_parameters,
};

const BATCH: usize = 3;

/// A small network that has every kind of layer.
fn small(dims: usize) -> DenseNetConfig {
    DenseNetConfig {
        growth_rate: 12,
        block_config: vec![2, 3],
        num_init_features: 10,
        num_classes: 7,
        ..preset("densenet121").unwrap().config(dims).unwrap()
    }
}

/// That one, and one that lacks some kinds.
fn networks() -> Vec<(&'static str, DenseNetConfig)> {
    let plain = DenseNetConfig {
        bn_size: 0,
        stem: Stem::small(2),
        final_norm: false,
        concat_order: ConcatOrder::NewOld,
        drop_rate: 0.2,
        ..small(2)
    };
    vec![("2-D", small(2)), ("3-D", small(3)), ("plain", plain)]
}

struct Case {
    config: DenseNetConfig,
    state: StateDict,
    data: Vec<f32>,
    spatial: [usize; 3],
}

impl Case {
    fn new(config: DenseNetConfig) -> Self {
        let mut state = StateDict::new();
        for p in generate_parameters(&Architecture::new(&config).unwrap(), 5) {
            let (shape, data) = (p.shape, p.data);
            state.insert(p.name, Tensor { shape, data });
        }
        let spatial = match config.spatial_dims {
            2 => [1, 37, 34],
            _ => [33, 34, 32],
        };
        let mut shape = vec![BATCH, config.in_channels];
        shape.extend(&spatial[3 - config.spatial_dims..]);
        let data = channels_last(&generate_input(&shape, 9, 0), &shape);
        Case {
            config,
            state,
            data,
            spatial,
        }
    }

    fn network(&self, frozen: &[&str], memory_efficient: bool) -> Network {
        let options = NetworkOptions {
            frozen: frozen.iter().map(|stage| stage.to_string()).collect(),
            memory_efficient,
            dropout_seed: 3,
        };
        Network::new(&self.config, &self.state, &options).unwrap()
    }

    /// The logits, which serve as their own gradient.
    fn forward(&self, network: &mut Network, step: u64) -> Vec<f32> {
        let input = Input {
            data: &self.data,
            batch: BATCH,
            spatial: self.spatial,
        };
        network.forward(input, step).unwrap().to_vec()
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn descend(parameters: &mut [f32], gradients: &[f32]) {
    for (p, g) in parameters.iter_mut().zip(gradients) {
        *p -= 1e-3 * g;
    }
}

#[test]
fn steps_part_by_part_give_the_bits_of_whole_ones() {
    for (name, config) in networks() {
        let case = Case::new(config);
        for (frozen, memory_efficient) in [
            (&[][..], false),
            (&[], true),
            (&["stem", "denseblock1"], false),
            (&["denseblock2", "classifier"], false),
            (&["features"], false),
        ] {
            let what = format!("{name}, frozen {frozen:?}, memory_efficient {memory_efficient}");
            let mut whole = case.network(frozen, false);
            let mut parted = case.network(frozen, memory_efficient);
            for step in 0..3 {
                whole.zero_grad();
                let logits = case.forward(&mut whole, step);
                whole.backward(&logits).unwrap();
                let expected = whole.gradients().to_vec();

                assert_eq!(
                    bits(&case.forward(&mut parted, step)),
                    bits(&logits),
                    "{what}"
                );
                let mut ranges: Vec<Range<usize>> = Vec::new();
                let flow = parted.backward_by_part(&logits, |part| {
                    assert_eq!(
                        bits(part.gradients),
                        bits(&expected[part.range.clone()]),
                        "{what}, {:?}",
                        part.range
                    );
                    ranges.push(part.range.clone());
                    descend(part.parameters, part.gradients);
                    ControlFlow::Continue(())
                });
                assert!(flow.unwrap().is_continue());
                // Last part first, none twice, and everything that is trained in one of them.
                assert!(ranges.windows(2).all(|w| w[1].end <= w[0].start), "{what}");
                for view in parted.views().iter().filter(|view| view.trainable) {
                    let holds =
                        |r: &&Range<usize>| r.start <= view.range.start && view.range.end <= r.end;
                    assert_eq!(
                        ranges.iter().filter(holds).count(),
                        1,
                        "{what}: {}",
                        view.name
                    );
                }
                assert!(parted.gradients().iter().all(|g| *g == 0.0));

                let (parameters, gradients) = whole.parameters_and_gradients_mut();
                descend(parameters, gradients);
                assert_eq!(
                    bits(parted.parameters()),
                    bits(whole.parameters()),
                    "{what}"
                );
            }
        }
    }
}

#[test]
fn a_pass_that_is_ended_early_leaves_the_rest_alone() {
    let case = Case::new(networks().remove(0).1);
    let mut network = case.network(&[], false);
    let before = network.parameters().to_vec();
    let logits = case.forward(&mut network, 0);
    let mut first = None;
    let flow = network.backward_by_part(&logits, |part| {
        assert!(first.is_none(), "no part follows the one that ended it");
        first = Some(part.range.clone());
        descend(part.parameters, part.gradients);
        ControlFlow::Break(())
    });
    assert!(flow.unwrap().is_break());
    let first = first.unwrap();
    assert_eq!(before[..first.start], network.parameters()[..first.start]);
    assert_ne!(before[first.clone()], network.parameters()[first]);
    // The pass is spent, and the next one as good as any.
    assert!(network.backward(&logits).is_err());
    network.parameters_mut().copy_from_slice(&before);
    let mut fresh = case.network(&[], false);
    for network in [&mut network, &mut fresh] {
        let logits = case.forward(network, 1);
        network.backward(&logits).unwrap();
    }
    assert_eq!(bits(network.gradients()), bits(fresh.gradients()));
}

#[test]
fn a_classifier_taken_in_pieces_has_the_reference_s_gradients() {
    // 53 channels times 20,000 classes are more than the backward pass takes at a time.
    let case = Case::new(DenseNetConfig {
        num_classes: 20_000,
        ..small(2)
    });
    let mut network = case.network(&[], false);
    let logits = case.forward(&mut network, 0);
    network.backward(&logits).unwrap();
    let whole = network.gradients().to_vec();
    let classifier = network
        .views()
        .iter()
        .find(|v| v.name == "classifier.weight");
    let start = classifier.unwrap().range.start;
    let (mut pieces, mut next) = (0, whole.len());
    let logits = case.forward(&mut network, 0);
    let flow = network.backward_by_part(&logits, |part| {
        assert_eq!(bits(part.gradients), bits(&whole[part.range.clone()]));
        if part.range.start >= start {
            // Side by side, from the end of the bias, but for its alignment.
            assert!((0..16).contains(&(next - part.range.end)));
            (pieces, next) = (pieces + 1, part.range.start);
        }
        ControlFlow::Continue(())
    });
    assert!(flow.unwrap().is_continue());
    assert!(pieces > 1 && next == start, "{pieces} pieces from {next}");

    let architecture = Architecture::new(&case.config).unwrap();
    let exact = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
    let parameters = case
        .state
        .iter()
        .map(|(n, t)| (n.to_string(), exact(&t.data)));
    let reference = densenet_reference::Network::new(&architecture, parameters.collect()).unwrap();
    let channels = case.config.in_channels;
    let shape = [BATCH, channels, case.spatial[1], case.spatial[2]];
    let data = exact(&generate_input(&shape, 9, 0));
    let input = densenet_reference::Tensor::new(BATCH, channels, case.spatial, data);
    let tape = reference
        .forward_train(&input, &densenet_reference::Training::default())
        .unwrap();
    let expected = reference.backward(&tape, tape.logits()).unwrap();
    for (name, found) in network.gradient_dict().iter() {
        let expected = &expected.parameters[name];
        let peak = expected.iter().fold(0.1f64, |m, v| m.max(v.abs()));
        let bound = Tolerance::absolute(1e-4 * peak);
        assert_close(&found.data, expected, bound, name);
    }
}
