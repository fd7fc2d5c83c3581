//! Values that cannot work, named before anything starts.

use super::{ClassWeights, TrainConfig};
use crate::{error::TrainError, weights::InitMode};

impl TrainConfig {
    /// Checks every option on its own; what depends on the data is checked when the run starts.
    ///
    /// # Errors
    /// `Config` naming the option, its value and the values that work.
    pub fn validate(&self) -> Result<(), TrainError> {
        for (option, value) in [
            ("--epochs", self.epochs),
            ("--batch-size", self.batch_size),
            ("--accumulate", self.accumulate),
            ("--loader-threads", self.loader_threads.unwrap_or(1)),
            ("--patience", self.patience.unwrap_or(1)),
        ] {
            check(
                option,
                value,
                (1..=1 << 30).contains(&value),
                "give at least 1",
            )?;
        }
        for (option, value) in [
            ("--max-bad", self.max_bad),
            ("--val-split", self.val_split),
            ("--test-split", self.test_split),
            ("--momentum", self.momentum),
            ("--betas", self.betas[0]),
            ("--betas", self.betas[1]),
            ("--label-smoothing", self.label_smoothing),
            ("--ema", self.ema.unwrap_or(0.0)),
        ] {
            check(
                option,
                value,
                (0.0..1.0).contains(&value),
                "give a number from 0 up to, not including, 1",
            )?;
        }
        for (option, value) in [
            ("--lr", self.lr.unwrap_or(1.0)),
            ("--eps", self.eps),
            ("--gamma", self.gamma),
            ("--clip-norm", self.clip_norm.unwrap_or(1.0)),
        ] {
            check(
                option,
                value,
                value > 0.0 && value.is_finite(),
                "give a number above 0",
            )?;
        }
        for (option, value) in [
            ("--weight-decay", self.weight_decay.unwrap_or(0.0)),
            ("--min-lr", self.min_lr),
            ("--warmup", self.warmup),
            ("--save-every", self.save_every),
        ] {
            check(
                option,
                value,
                value >= 0.0 && value.is_finite(),
                "give 0 or a number above it",
            )?;
        }
        let epochs = self.epochs as f64;
        check(
            "--warmup",
            self.warmup,
            self.warmup <= epochs,
            "give no more epochs of warm-up than --epochs",
        )?;
        check(
            "--nesterov",
            self.nesterov,
            !self.nesterov || self.momentum > 0.0 || !self.is_sgd(),
            "it needs a --momentum above 0",
        )?;
        let rising = self.milestones.windows(2).all(|w| w[0] < w[1]);
        let shares = self.milestones.iter().all(|m| *m > 0.0 && *m < 1.0);
        let shown = format!("{:?}", self.milestones);
        check(
            "--milestones",
            shown,
            rising && shares,
            "give rising shares of the run, such as 0.5,0.75",
        )?;
        if let Some(ClassWeights::List(weights)) = &self.class_weights {
            let good = !weights.is_empty()
                && weights.iter().all(|w| *w >= 0.0 && w.is_finite())
                && weights.iter().any(|w| *w > 0.0);
            check(
                "--class-weights",
                format!("{weights:?}"),
                good,
                "give `balanced`, or one number from 0 up for each class",
            )?;
        }
        if let Some(init) = &self.init {
            check(
                "--init",
                init,
                InitMode::from_name(init).is_some(),
                "give fan_in or fan_out",
            )?;
        }
        if let Some(size) = &self.image_size {
            let good =
                matches!(size.len(), 1..=3) && size.iter().all(|s| (1..=1 << 16).contains(s));
            check(
                "--image-size",
                format!("{size:?}"),
                good,
                "give a side, a height and a width, or a depth, a height and a width, from 1 to 65536",
            )?;
        }
        if let Some(spacing) = &self.spacing {
            check(
                "--spacing",
                format!("{spacing:?}"),
                matches!(spacing.len(), 1 | 3),
                "give millimetres, one number or three for depth, height and width",
            )?;
        }
        let lists = [
            ("--mean", &self.mean, f64::NEG_INFINITY),
            ("--std", &self.std, 0.0),
        ];
        for (option, list, above) in lists {
            let good = list.iter().flatten().all(|v| v.is_finite() && *v > above);
            check(
                option,
                format!("{list:?}"),
                good,
                "give one number per channel (above 0 for --std)",
            )?;
        }
        Ok(self.augment.validate()?)
    }

    fn is_sgd(&self) -> bool {
        self.optimizer == crate::optimizer::OptimizerKind::Sgd
    }
}

fn check(option: &str, value: impl ToString, good: bool, cure: &str) -> Result<(), TrainError> {
    if good {
        Ok(())
    } else {
        Err(TrainError::config(
            option,
            format!("{} cannot work", value.to_string()),
            cure,
        ))
    }
}
