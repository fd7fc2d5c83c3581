//! After the first step of a size, a training step allocates nothing: counted by the allocator of this test's process.

use std::{alloc::System, ops::ControlFlow};

use densenet::{Input, Network, NetworkOptions, Part};
use densenet_spec::{Architecture, DenseNetConfig, preset};
use densenet_weights::{InitMode, initialize};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

struct Case {
    what: &'static str,
    config: DenseNetConfig,
    spatial: [usize; 3],
    batch: usize,
    memory_efficient: bool,
}

fn case(what: &'static str, name: &str, dims: usize, spatial: [usize; 3]) -> Case {
    let mut config = preset(name).unwrap().config(dims).unwrap();
    config.block_config.fill(3);
    config.num_classes = 10;
    Case {
        what,
        config,
        spatial,
        batch: 3,
        memory_efficient: false,
    }
}

fn cases() -> Vec<Case> {
    let mut dropped = case("dropout", "densenet-bc-100-12", 2, [1, 16, 16]);
    dropped.config.drop_rate = 0.2;
    let mut recomputed = case("recomputed bottlenecks", "densenet121", 2, [1, 64, 48]);
    recomputed.memory_efficient = true;
    vec![
        case("2-D", "densenet121", 2, [1, 64, 48]),
        case("3-D", "densenet121", 3, [32, 32, 40]),
        case("no bottlenecks", "densenet-40-12", 2, [1, 16, 20]),
        dropped,
        recomputed,
    ]
}

/// One step with the plainest optimiser.
fn step(network: &mut Network, input: Input<'_>, grad: &mut [f32], number: u64, by_part: bool) {
    network.zero_grad();
    let logits = network.forward(input, number).unwrap();
    for (g, l) in grad.iter_mut().zip(logits) {
        *g = 0.01 * l;
    }
    network.update_running_statistics();
    let descend = |parameters: &mut [f32], gradients: &[f32]| {
        for (p, g) in parameters.iter_mut().zip(gradients) {
            *p -= 1e-3 * *g;
        }
    };
    if by_part {
        let each = |part: Part<'_>| {
            descend(part.parameters, part.gradients);
            ControlFlow::Continue(())
        };
        assert!(network.backward_by_part(grad, each).unwrap().is_continue());
    } else {
        network.backward(grad).unwrap();
        let (parameters, gradients) = network.parameters_and_gradients_mut();
        descend(parameters, gradients);
    }
}

/// Allocations, reallocations and bytes of each of `steps` steps after `before` others.
fn counted(case: &Case, by_part: bool, threads: usize, before: u64, steps: u64) -> Vec<[usize; 3]> {
    let architecture = Architecture::new(&case.config).unwrap();
    let mode = InitMode::default_for(case.config.spatial_dims);
    let options = NetworkOptions {
        memory_efficient: case.memory_efficient,
        ..NetworkOptions::default()
    };
    let weights = initialize(&architecture, 1, mode);
    let mut network = Network::new(&case.config, &weights, &options).unwrap();
    let values = case.spatial.iter().product::<usize>() * case.config.in_channels * case.batch;
    let data: Vec<f32> = (0..values).map(|i| (i % 97) as f32 / 48.5 - 1.0).collect();
    let input = Input {
        data: &data,
        batch: case.batch,
        spatial: case.spatial,
    };
    let mut grad = vec![0.0; case.batch * case.config.num_classes];
    let mut counts = Vec::with_capacity(steps as usize);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.unwrap().install(|| {
        for number in 0..before {
            step(&mut network, input, &mut grad, number, by_part);
        }
        for number in before..before + steps {
            let region = Region::new(ALLOCATOR);
            step(&mut network, input, &mut grad, number, by_part);
            let change = region.change();
            counts.push([
                change.allocations,
                change.reallocations,
                change.bytes_allocated,
            ]);
        }
    });
    counts
}

#[test]
fn a_step_after_the_first_allocates_nothing() {
    for case in cases() {
        for by_part in [false, true] {
            let counts = counted(&case, by_part, 1, 1, 3);
            assert_eq!(counts, [[0; 3]; 3], "{}, by part: {by_part}", case.what);
        }
    }
    // Several threads: what the pool needs to call its threads together, twice a step. Which thread takes which chunk is
    // chance, so a thread's scratch memory may still grow in the first steps.
    for case in cases() {
        let counts = counted(&case, true, 2, 6, 6);
        let least = counts.iter().map(|c| c[2]).min().unwrap();
        assert!(least < 4096, "{}: {counts:?}", case.what);
    }
}
