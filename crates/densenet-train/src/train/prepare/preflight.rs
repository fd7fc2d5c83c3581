//! What training would stumble over, found before it starts: the one function behind `train` and `densenet check`.

use std::{collections::BTreeMap, sync::Arc};

use densenet::memory::{self, Memory};
use densenet_data::{Dataset, Inspection, Loader, Preprocessing, Split};

use super::{Source, batches::Batches, images::Images};
use crate::{
    config::TrainConfig,
    error::TrainError,
    report::Reporter,
    spec::{Architecture, DenseNetConfig},
    stop::StopFlag,
    weights::{ConfigFile, StateDict},
};

/// One thing worth knowing before training, with its cure.
#[derive(Debug)]
pub enum Finding {
    /// How something was understood or decided.
    Note(String),
    /// Training goes on, and may go worse for it.
    Warning(String),
    /// Training is refused.
    Refused(TrainError),
}

impl Finding {
    /// Whether training is refused.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Finding::Refused(_))
    }

    /// What it says, in one line.
    pub fn text(&self) -> String {
        match self {
            Finding::Note(text) | Finding::Warning(text) => text.clone(),
            Finding::Refused(error) => error.to_string(),
        }
    }
}

/// What was found out before the first step.
pub struct Preflight {
    /// The data set, without the files that are left out.
    pub dataset: Arc<Dataset>,
    /// What looking at every sample has shown.
    pub inspection: Inspection,
    /// What is done to every sample.
    pub preprocessing: Preprocessing,
    /// The network, unless the data does not allow one.
    pub network: Option<DenseNetConfig>,
    /// `[depth, height, width]` of the network's input, where all samples come to one size.
    pub input: Option<[usize; 3]>,
    /// What a forward pass and a training step of one batch take.
    pub memory: Option<Memory>,
    /// Everything worth saying, in the order in which it was found.
    pub findings: Vec<Finding>,
    /// The data set as it was inspected: the inspection's positions are its.
    whole: Dataset,
    pub(super) ready: Option<Ready>,
}

/// What a run begins with.
pub(super) struct Ready {
    pub config: TrainConfig,
    pub train: Loader,
    pub val: Option<Loader>,
    pub architecture: Architecture,
    pub state: StateDict,
    pub batches_tracked: u64,
}

/// Samples of the commonest class for one of the rarest, beyond which a hint is due.
const UNBALANCED: usize = 5;

/// Looks at the data and the network as `train` does, without training; `None` where `stop` was raised meanwhile.
///
/// # Errors
/// Data that cannot be opened and options that contradict each other; all else is among the findings.
pub fn preflight(
    config: &TrainConfig,
    reporter: &mut dyn Reporter,
    stop: &StopFlag,
) -> Result<Option<Preflight>, TrainError> {
    config.validate()?;
    let outcome = Preflight::new(config, Source::find(config)?, reporter, stop);
    reporter.finished();
    outcome
}

impl Preflight {
    pub(super) fn new(
        config: &TrainConfig,
        source: Source,
        reporter: &mut dyn Reporter,
        stop: &StopFlag,
    ) -> Result<Option<Self>, TrainError> {
        let mut notes = Collector {
            findings: Vec::new(),
            onwards: reporter,
        };
        let Some(images) = Images::new(config, &source, &mut notes, stop)? else {
            return Ok(None);
        };
        let mut found = Preflight {
            dataset: images.dataset,
            whole: images.whole,
            inspection: images.inspection,
            preprocessing: images.preprocessing,
            network: None,
            input: None,
            memory: None,
            findings: Vec::new(),
            ready: None,
        };
        if let Some(error) = images.refused {
            notes.findings.push(Finding::Refused(error));
        }
        found.balance(config, &mut notes);
        if let Err(error) = found.network(config, source, &mut notes) {
            notes.findings.push(Finding::Refused(error));
        }
        found.findings = notes.findings;
        Ok(Some(found))
    }

    /// The run that can start.
    ///
    /// # Errors
    /// The first finding that refuses it; all others are told to `reporter`.
    pub(super) fn start(
        self,
        reporter: &mut dyn Reporter,
    ) -> Result<(Ready, Preprocessing), TrainError> {
        let mut refused = None;
        for finding in self.findings {
            match finding {
                Finding::Note(text) => reporter.note(&text),
                Finding::Warning(text) => reporter.warning(&text),
                Finding::Refused(error) => refused = refused.or(Some(error)),
            }
        }
        match (refused, self.ready) {
            (None, Some(ready)) => Ok((ready, self.preprocessing)),
            (Some(error), _) => Err(error),
            (None, None) => Err(TrainError::Bug(
                "nothing was refused, nothing is ready".into(),
            )),
        }
    }

    /// Whether some class is rare among the training samples.
    fn balance(&self, config: &TrainConfig, notes: &mut Collector<'_>) {
        let counts = self.dataset.class_counts(Split::Train);
        let named = || self.dataset.classes().iter().zip(&counts);
        let rare = named().min_by_key(|(_, n)| **n);
        let common = named().rev().max_by_key(|(_, n)| **n);
        if config.class_weights.is_none()
            && let (Some((rare, &few)), Some((common, &many))) = (rare, common)
            && many > UNBALANCED * few.max(1)
        {
            notes.warning(&format!(
                "class `{common}` has {many} training samples, `{rare}` has {few} — add some, or give --class-weights balanced \
                 and --monitor macro_auroc"
            ));
        }
    }

    /// The network, and whether it can be trained on samples of these sizes on this machine.
    fn network(
        &mut self,
        config: &TrainConfig,
        source: Source,
        notes: &mut Collector<'_>,
    ) -> Result<(), TrainError> {
        let source = source.settled(&self.preprocessing, notes);
        let classes = self.dataset.classes().len();
        let network = source.network(config, classes, &self.preprocessing)?;
        let architecture = Architecture::new(&network)?;
        self.network = Some(network.clone());
        self.sizes(&architecture)?;
        if let (Some(&input), 1) = (
            self.inspection.sizes.keys().next(),
            self.inspection.sizes.len(),
        ) {
            self.input = Some(input);
            // A split that is smaller than a batch makes smaller batches.
            let samples = self.dataset.indices(Split::Train).len().max(1);
            let batch = config.batch_size.min(samples);
            self.memory = Some(memory::estimate(&architecture, input, batch)?);
        }
        if self.input.is_none() {
            return Ok(());
        }
        let mut config = config.clone();
        let state = source.weights(&config, &architecture, notes)?;
        config.resolve_rates(source.is_model());
        config.model.get_or_insert_with(|| source.name());
        config.network = ConfigFile::from(&network);
        config.preprocessing = Some(self.preprocessing.clone());
        config.forget_steps();
        let batches = Batches {
            config: &config,
            dataset: &self.dataset,
            preprocessing: &self.preprocessing,
            architecture: &architecture,
        };
        let (train, val) = batches.loaders(notes)?;
        batches.warn_of_memory(&train, val.as_ref(), notes)?;
        if notes.findings.iter().any(Finding::is_refusal) {
            return Ok(());
        }
        self.ready = Some(Ready {
            config,
            train,
            val,
            architecture,
            state,
            batches_tracked: source.batches_tracked(),
        });
        Ok(())
    }

    /// Every sample's size against the least that the network works with.
    fn sizes(&self, architecture: &Architecture) -> Result<(), TrainError> {
        let least = architecture.min_input();
        let small: BTreeMap<_, _> = self
            .inspection
            .sizes
            .iter()
            .filter(|(size, _)| size.iter().zip(least).any(|(n, least)| *n < least))
            .collect();
        let Some((size, (_, first))) = small.first_key_value() else {
            return Ok(());
        };
        let count: usize = small.values().map(|(n, _)| n).sum();
        let others = match count {
            1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        Err(TrainError::config(
            self.whole.describe(*first),
            format!(
                "{} are prepared to {}{others}, smaller than the {} that the network needs",
                self.samples(),
                extent(**size),
                extent(least)
            ),
            "give a larger --image-size, a finer --spacing of volumes, or a network with --stem small or fewer blocks",
        ))
    }

    fn samples(&self) -> &'static str {
        if self.dataset.is_volumes() {
            "volumes"
        } else {
            "images"
        }
    }
}

/// `64 × 96 × 96`, or `224 × 224` where there is no depth.
pub(super) fn extent([depth, height, width]: [usize; 3]) -> String {
    match depth {
        1 => format!("{height} × {width}"),
        _ => format!("{depth} × {height} × {width}"),
    }
}

/// Writes down what is noted, and passes on how far things are.
pub(super) struct Collector<'a> {
    findings: Vec<Finding>,
    onwards: &'a mut dyn Reporter,
}

impl Reporter for Collector<'_> {
    fn note(&mut self, text: &str) {
        self.findings.push(Finding::Note(text.to_string()));
    }

    fn warning(&mut self, text: &str) {
        self.findings.push(Finding::Warning(text.to_string()));
    }

    fn progress(&mut self, what: &str, done: usize, total: usize) {
        self.onwards.progress(what, done, total);
    }
}
