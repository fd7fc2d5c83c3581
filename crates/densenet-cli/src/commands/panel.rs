//! Who is asked about a sample: one model or several, each shown the sample alone or changed copies of it, too.

mod member;
mod votes;

use std::path::{Path, PathBuf};

use clap::Args;
use densenet_data::{Augmentation, DataError, DecodedImage, Prepared};

use crate::failure::Failure;
pub use member::{Member, tell_calibration};
use votes::USUAL_CHANGES;
pub use votes::{Mean, Spread, Views, first_of_the_largest, mirror};

/// The options that ask for more answers than one.
#[derive(Debug, Args)]
pub struct PanelOptions {
    /// Another model file whose probabilities are averaged with the first one's; may be given again
    #[arg(long, value_name = "MODEL")]
    ensemble: Vec<PathBuf>,
    /// Average over changed copies of each image: hflip (2), flips (4 of an image, 8 of a volume), or a number of copies
    #[arg(long, value_name = "hflip|flips|N")]
    tta: Option<Views>,
    /// With --tta N: the random changes of all copies but the first [default: rotate:5,brightness:0.1,contrast:0.1]
    #[arg(long, value_name = "CHANGES", requires = "tta")]
    tta_augment: Option<String>,
}

impl PanelOptions {
    /// Whether several answers are averaged.
    pub fn wanted(&self) -> bool {
        self.tta.is_some() || !self.ensemble.is_empty()
    }

    /// What a title says beside the first model's name: nothing, or ` and 2 more with mirror images`.
    pub fn others(&self) -> String {
        let mut others = match self.ensemble.len() {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        match self.tta {
            Some(Views::HorizontalFlip) => others.push_str(" with mirror images"),
            Some(Views::Flips) => others.push_str(" with all mirror images"),
            Some(Views::Random(n)) => others.push_str(&format!(" with {n} copies")),
            None => {}
        }
        others
    }

    /// Reads the model files, `first` before the others.
    ///
    /// # Errors
    /// A model cannot be used for this, or not together with the first; the random changes cannot be understood.
    pub fn panel(&self, first: &Path) -> Result<Panel, Failure> {
        let mut members: Vec<Member> = vec![Member::read(first)?];
        for path in &self.ensemble {
            let mut member = Member::read(path)?;
            member.align(path, &members[0], first)?;
            members.push(member);
        }
        if self.tta_augment.is_some() && !matches!(self.tta, Some(Views::Random(_))) {
            return Err(Failure::usage(
                "--tta-augment: for random copies alone — give --tta their number",
            ));
        }
        let changes = self.tta_augment.as_deref().unwrap_or(USUAL_CHANGES);
        let changes: Augmentation = changes.parse()?;
        if changes.needs_volumes() && !members[0].takes_volumes() {
            return Err(Failure::usage(
                "--tta-augment: a change that only volumes know — leave out dflip, rot90, scale, gamma and noise",
            ));
        }
        Ok(Panel {
            members,
            views: self.tta,
            changes,
        })
    }
}

/// One model or several, and the copies of a sample that they are shown.
pub struct Panel {
    /// The first one's classes are everybody's.
    pub members: Vec<Member>,
    pub views: Option<Views>,
    /// What random copies are changed by.
    pub changes: Augmentation,
}

impl Panel {
    /// The first model.
    pub fn first(&self) -> &Member {
        &self.members[0]
    }

    /// Whether it takes volumes rather than images.
    pub fn takes_volumes(&self) -> bool {
        self.first().takes_volumes()
    }

    /// Answers that are averaged for each sample.
    pub fn votes(&self) -> usize {
        let views = self.views.map_or(1, |v| v.count(self.takes_volumes()));
        self.members.len() * views
    }

    /// A sample as each member takes it, by member, then by copy.
    ///
    /// # Errors
    /// The sample cannot be prepared.
    pub fn prepare(&self, image: &DecodedImage) -> Result<Vec<Vec<Prepared>>, DataError> {
        let prepared = self.members.iter().map(|member| match self.views {
            None => Ok(vec![member.preprocessing.apply(image)?]),
            Some(views) => views.of(image, &member.preprocessing, &self.changes),
        });
        prepared.collect()
    }
}

/// exp(z) / Σ exp(z), taken at the maximum so that nothing overflows.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f64> = logits
        .iter()
        .map(|&z| (f64::from(z) - f64::from(top)).exp())
        .collect();
    let sum: f64 = exps.iter().sum();
    exps.iter().map(|e| e / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one_for_any_logits() {
        for logits in [&[0.0f32, 0.0][..], &[1000.0, -1000.0, 999.0], &[-5e4, -5e4]] {
            let sum: f64 = softmax(logits).iter().sum();
            assert!((sum - 1.0).abs() < 1e-12, "{sum}");
        }
        assert!(softmax(&[f32::NAN, 1.0]).iter().any(|p| p.is_nan()));
    }
}
