use super::*;

#[test]
fn every_key_is_listed_once_and_every_listed_key_exists() {
    let full = TrainConfig {
        data: Some("x".into()),
        image_size: Some(vec![8, 8]),
        orientation: Some(Orientation::RAS),
        spacing: Some(vec![1.0]),
        window: Some([0.0, 1.0]),
        percentiles: Some([0.0, 100.0]),
        normalize: Some(Normalize::Zscore),
        fit: Some(Fit::Crop),
        non_finite: Some(NonFiniteVoxels::Zero),
        mean: Some(vec![0.5]),
        std: Some(vec![0.5]),
        loader_threads: Some(1),
        cache_dir: Some("kept".into()),
        init: Some("fan_in".into()),
        lr: Some(0.1),
        weight_decay: Some(0.0),
        class_weights: Some(ClassWeights::Rule(WeightRule::Balanced)),
        clip_norm: Some(1.0),
        ema: Some(0.9),
        patience: Some(3),
        name: Some("n".into()),
        save_every_steps: Some(7),
        preprocessing: Some(Preprocessing::plain(1)),
        model: Some("densenet121".into()),
        network: ConfigFile::from(
            &crate::spec::preset("densenet121")
                .unwrap()
                .config(2)
                .unwrap(),
        ),
        ..TrainConfig::default()
    };
    let mut written: Vec<String> = full.to_table().unwrap().keys().cloned().collect();
    let mut listed: Vec<String> = layers::keys().map(str::to_string).collect();
    written.sort();
    listed.sort();
    assert_eq!(written, listed);
    assert!(text::FREE.iter().all(|k| listed.iter().any(|l| l == k)));

    let text = full.to_toml().unwrap();
    let back = TrainConfig::layered(&[Layer::parse("config.toml", &text).unwrap()]).unwrap();
    assert_eq!(back, full, "{text}");
    assert!(
        text.contains("\n# Network\nmodel = \"densenet121\"\ngrowth_rate = 32\n"),
        "{text}"
    );
}

#[test]
fn the_defaults_are_valid_and_come_back() {
    for config in [
        TrainConfig::digits(),
        TrainConfig {
            data: Some("d".into()),
            ..TrainConfig::default()
        },
    ] {
        config.validate().unwrap();
        let layer = Layer::parse("config.toml", &config.to_toml().unwrap()).unwrap();
        assert_eq!(TrainConfig::layered(&[layer]).unwrap(), config);
    }
}

#[test]
fn values_that_cannot_work_are_named_by_their_option() {
    type Change = fn(&mut TrainConfig);
    let cases: [(&str, Change); 17] = [
        ("--epochs", |c| c.epochs = 0),
        ("--batch-size", |c| c.batch_size = 0),
        ("--accumulate", |c| c.accumulate = 0),
        ("--momentum", |c| c.momentum = 1.0),
        ("--betas", |c| c.betas = [0.9, 1.5]),
        ("--ema", |c| c.ema = Some(-0.1)),
        ("--lr", |c| c.lr = Some(f64::NAN)),
        ("--clip-norm", |c| c.clip_norm = Some(0.0)),
        ("--weight-decay", |c| c.weight_decay = Some(-1.0)),
        ("--warmup", |c| c.warmup = 1e9),
        ("--nesterov", |c| c.momentum = 0.0),
        ("--milestones", |c| c.milestones = vec![0.75, 0.5]),
        ("--class-weights", |c| {
            c.class_weights = Some(ClassWeights::List(vec![-1.0]))
        }),
        ("--init", |c| c.init = Some("fan".into())),
        ("--image-size", |c| c.image_size = Some(vec![0, 8])),
        ("--std", |c| c.std = Some(vec![0.0])),
        ("--patience", |c| c.patience = Some(0)),
    ];
    for (option, change) in cases {
        let mut config = TrainConfig::digits();
        change(&mut config);
        let error = config.validate().unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("{option}: ")),
            "{option}: {error}"
        );
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn the_identity_leaves_out_what_changes_no_result() {
    let config = TrainConfig::digits();
    let same = TrainConfig {
        save_every: 1.0,
        loader_threads: Some(9),
        memory_efficient: true,
        ..config.clone()
    };
    assert_eq!(config.identity().unwrap(), same.identity().unwrap());
    let other = TrainConfig {
        lr: Some(0.5),
        ..config.clone()
    };
    let differences = text::differences(&other.identity().unwrap(), &config.identity().unwrap());
    assert_eq!(differences, ["lr is 0.5, was not set"]);
}

#[test]
fn rates_follow_batch_and_optimizer() {
    let resolved = |change: fn(&mut TrainConfig), fine_tuning| {
        let mut config = TrainConfig::default();
        change(&mut config);
        config.resolve_rates(fine_tuning);
        (config.lr.unwrap(), config.weight_decay.unwrap())
    };
    assert_eq!(resolved(|_| (), false), (0.05, 1e-4));
    assert_eq!(resolved(|c| c.accumulate = 100, false), (0.1, 1e-4));
    assert_eq!(resolved(|_| (), true), (0.005, 1e-4));
    assert_eq!(
        resolved(|c| c.optimizer = OptimizerKind::AdamW, false),
        (1e-3, 1e-2)
    );
    assert_eq!(resolved(|c| c.lr = Some(7.0), true).0, 7.0);
}

#[test]
fn balanced_weights_even_out_the_classes() {
    let config = TrainConfig {
        class_weights: Some(ClassWeights::Rule(WeightRule::Balanced)),
        ..TrainConfig::default()
    };
    let weights = config.loss(&[30, 10]).class_weights.unwrap();
    assert_eq!(weights, [40.0 / 60.0, 2.0]);
}
