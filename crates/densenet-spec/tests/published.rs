//! The numbers other people published about these networks.

use densenet_spec::{Architecture, ConcatOrder, DenseNetConfig, Named, Op, PRESETS, Stem, preset};

fn architecture(name: &str, spatial_dims: usize) -> Architecture {
    Architecture::new(&preset(name).unwrap().config(spatial_dims).unwrap()).unwrap()
}

#[test]
fn parameter_counts_in_2d() {
    // torchvision (121–201), the paper's authors (BC), a count from PyTorch modules (264, plain).
    for (name, params) in [
        ("densenet121", 7_978_856),
        ("densenet161", 28_681_000),
        ("densenet169", 14_149_480),
        ("densenet201", 20_013_928),
        ("densenet264", 33_337_704),
        ("densenet-bc-100-12", 769_162),
        ("densenet-bc-250-24", 15_324_406),
        ("densenet-bc-190-40", 25_624_430),
    ] {
        assert_eq!(architecture(name, 2).num_parameters(), params, "{name}");
    }
    // Paper, Table 2: 1.0 M, 7.0 M and 27.2 M.
    for (name, millions) in [
        ("densenet-40-12", 1.0),
        ("densenet-100-12", 7.0),
        ("densenet-100-24", 27.2),
    ] {
        let params = architecture(name, 2).num_parameters() as f64 / 1e6;
        assert!((params - millions).abs() < 0.05, "{name}: {params}");
    }
}

#[test]
fn parameter_counts_in_3d() {
    for (name, params) in [
        ("densenet121", 11_244_674),
        ("densenet161", 39_434_498),
        ("densenet169", 18_546_050),
        ("densenet201", 25_334_658),
        ("densenet264", 40_251_266),
    ] {
        let mut config = preset(name).unwrap().config(3).unwrap();
        config.num_classes = 2;
        assert_eq!(
            Architecture::new(&config).unwrap().num_parameters(),
            params,
            "{name}"
        );
    }
    assert_eq!(architecture("densenet121", 3).num_parameters(), 12_267_624);
}

#[test]
fn monai_counts_with_two_channels_and_three_classes() {
    for (name, dims, params) in [
        ("densenet121", 2, 6_953_795),
        ("densenet169", 2, 12_486_339),
        ("densenet201", 2, 18_095_555),
        ("densenet264", 2, 30_653_635),
        ("densenet121", 3, 11_267_651),
        ("densenet264", 3, 40_275_907),
    ] {
        let mut config = preset(name).unwrap().config(dims).unwrap();
        (config.in_channels, config.num_classes) = (2, 3);
        let found = Architecture::new(&config).unwrap().num_parameters();
        assert_eq!(found, params, "{name} in {dims}-D");
    }
}

#[test]
fn macs() {
    for (name, gmacs) in [
        ("densenet121", 2.834),
        ("densenet161", 7.728),
        ("densenet169", 3.360),
        ("densenet201", 4.291),
        ("densenet264", 5.752),
    ] {
        let macs = architecture(name, 2).trace([1, 224, 224]).unwrap().macs() as f64 / 1e9;
        assert!((macs - gmacs).abs() < 0.0006, "{name}: {macs}");
    }
    let volume = architecture("densenet121", 3);
    for (side, gmacs, tolerance) in [
        (32, 0.67, 0.006),
        (64, 5.36, 0.006),
        (96, 18.10, 0.006),
        (224, 229.9, 0.06),
    ] {
        let macs = volume.trace([side; 3]).unwrap().macs() as f64 / 1e9;
        assert!((macs - gmacs).abs() < tolerance, "{side}: {macs}");
    }
}

#[test]
fn smallest_inputs() {
    let mut config = preset("densenet121").unwrap().config(2).unwrap();
    let min = |c: &DenseNetConfig| Architecture::new(c).unwrap().min_input();
    assert_eq!(min(&config), [1, 29, 29]);
    config.stem.pool = false;
    assert_eq!(min(&config), [1, 15, 15]);
    config.stem = Stem::small(2);
    assert_eq!(min(&config), [1, 8, 8]);
    let mut volume = preset("densenet121").unwrap().config(3).unwrap();
    assert_eq!(min(&volume), [29; 3]);
    volume.stem.stride[0] = 1; // Kenshohara's temporal stride
    assert_eq!(min(&volume), [15, 29, 29]);
}

#[test]
fn the_minimum_works_and_one_less_does_not() {
    for p in PRESETS {
        for dims in [2, 3] {
            let a = architecture(p.name, dims);
            let min = a.min_input();
            a.trace(min).unwrap();
            for axis in 3 - dims..3 {
                let mut small = min;
                small[axis] -= 1;
                let error = a.trace(small).unwrap_err().to_string();
                assert!(error.contains("smallest input that works"), "{error}");
            }
        }
    }
}

#[test]
fn names_and_shapes_are_torchvisions() {
    let a = architecture("densenet121", 2);
    let shape = |name: &str| {
        let found = a.parameters().iter().find(|p| p.name == name);
        found.unwrap_or_else(|| panic!("{name}")).shape.clone()
    };
    assert_eq!(shape("features.conv0.weight"), [64, 3, 7, 7]);
    assert_eq!(
        shape("features.denseblock1.denselayer1.norm1.running_var"),
        [64]
    );
    assert_eq!(
        shape("features.denseblock4.denselayer16.conv1.weight"),
        [128, 992, 1, 1]
    );
    assert_eq!(
        shape("features.denseblock4.denselayer16.conv2.weight"),
        [32, 128, 3, 3]
    );
    assert_eq!(shape("features.transition3.conv.weight"), [512, 1024, 1, 1]);
    assert_eq!(shape("features.norm5.bias"), [1024]);
    assert_eq!(shape("classifier.weight"), [1000, 1024]);
    // 727 tensors in torchvision's state dict, of which 121 are num_batches_tracked.
    assert_eq!(a.parameters().len(), 727 - 121);
    let volume = architecture("densenet121", 3);
    assert_eq!(volume.parameters()[0].shape, [64, 1, 7, 7, 7]);
}

#[test]
fn stages_are_reached_by_every_name_people_use() {
    let a = architecture("densenet121", 2);
    let names: Vec<_> = a.stages().iter().map(|s| s.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "stem",
            "denseblock1",
            "transition1",
            "denseblock2",
            "transition2",
            "denseblock3",
            "transition3",
            "denseblock4",
            "norm5",
            "classifier"
        ]
    );
    assert_eq!(a.resolve("denseblock2").unwrap(), Named::Stage(3));
    assert_eq!(a.resolve("features.denseblock2").unwrap(), Named::Stage(3));
    assert_eq!(a.resolve("Dense_Block_2").unwrap(), Named::Stage(3));
    assert_eq!(a.resolve("Conv1").unwrap(), Named::Stage(0));
    assert_eq!(
        a.resolve("finale_bn").unwrap(),
        a.resolve("final_norm").unwrap()
    );
    let layer = |n: &str| match a.resolve(n).unwrap() {
        Named::Layer(i) => a.layers()[i].name.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        layer("denseblock1.denselayer2"),
        "features.denseblock1.denselayer2.conv2"
    );
    assert_eq!(
        layer("features.transition1.pool"),
        "features.transition1.pool"
    );
    let error = a.resolve("densblock2").unwrap_err().to_string();
    assert!(error.contains("did you mean denseblock2?"), "{error}");
}

#[test]
fn plain_networks_have_one_convolution_a_layer() {
    let a = architecture("densenet-40-12", 2);
    let convs = a
        .layers()
        .iter()
        .filter(|l| matches!(l.op, Op::Conv(_)))
        .count();
    assert_eq!(convs, 1 + 36 + 2);
    assert_eq!(a.blocks()[0].layers[0].bottleneck, 0);
    assert!(a.resolve("denseblock1.denselayer1").is_ok());
}

#[test]
fn configurations_that_cannot_work_say_which_would() {
    let good = preset("densenet121").unwrap().config(2).unwrap();
    type Change = fn(&mut DenseNetConfig);
    let cases: [(&str, Change, &str); 12] = [
        (
            "growth_rate",
            |c| c.growth_rate = 0,
            "smallest value that works is 1",
        ),
        (
            "in_channels",
            |c| c.in_channels = 0,
            "smallest value that works is 1",
        ),
        (
            "num_classes",
            |c| c.num_classes = 0,
            "smallest value that works is 1",
        ),
        (
            "num_init_features",
            |c| c.num_init_features = usize::MAX,
            "largest value",
        ),
        (
            "block_config",
            |c| c.block_config = vec![],
            "1 to 32 dense blocks",
        ),
        (
            "block_config",
            |c| c.block_config = vec![6, 0],
            "1 to 4096 layers",
        ),
        ("drop_rate", |c| c.drop_rate = 1.0, "[0, 1)"),
        ("drop_rate", |c| c.drop_rate = f64::NAN, "[0, 1)"),
        ("compression", |c| c.compression = 0.0, "(0, 1]"),
        (
            "compression",
            |c| c.compression = 0.001,
            "smallest value that works is 0.00390625",
        ),
        (
            "spatial_dims",
            |c| c.spatial_dims = 4,
            "2 for images, 3 for volumes",
        ),
        (
            "stem.kernel",
            |c| c.stem.kernel = [3, 7, 7],
            "depth axis is 1",
        ),
    ];
    for (field, change, reason) in cases {
        let mut config = good.clone();
        change(&mut config);
        let error = Architecture::new(&config).unwrap_err();
        assert_eq!(error.field, field);
        assert!(error.reason.contains(reason), "{error}");
    }
    assert!(
        preset("densenet122")
            .unwrap_err()
            .to_string()
            .contains("did you mean")
    );
}

#[test]
fn small_variant_without_final_norm() {
    let mut config = preset("densenet121").unwrap().config(2).unwrap();
    config.final_norm = false;
    config.concat_order = ConcatOrder::NewOld;
    config.num_classes = 100;
    assert_eq!(
        Architecture::new(&config).unwrap().num_parameters(),
        7_054_308
    );
}
