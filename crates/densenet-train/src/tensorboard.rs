//! Event files for TensorBoard.
//!
//! [`EventLog`] listens to a run and passes everything on to the reporter behind it: scalars of every step and epoch, and
//! the configuration as text. It writes `tensorboard/events.out.tfevents.*` in the run's folder; a resumed run opens a
//! file of its own and says from which step on older ones are void, so that TensorBoard shows one line without loops.
//!
//! # Source
//! TensorFlow's `event.proto`, `summary.proto`, `tensor.proto`; TFRecord's framing.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    checkpoint::EpochMetrics,
    report::{Reporter, RunInfo, StepInfo},
};

mod event;
mod record;

use event::{Event, Value};

/// The folder of event files within a run's.
pub(crate) const FOLDER: &str = "tensorboard";
/// Steps between two points of the curves by step.
const EVERY: u64 = 10;

/// Writes what it hears into an event file and passes it on.
pub(crate) struct EventLog<'a> {
    inner: &'a mut dyn Reporter,
    /// `None` once writing failed: the run goes on without.
    file: Option<BufWriter<File>>,
    path: PathBuf,
}

impl<'a> EventLog<'a> {
    /// A new file in `run`'s folder for a run that has taken `step` steps and is configured so.
    ///
    /// # Errors
    /// The system refuses folder or file.
    pub(crate) fn new(
        inner: &'a mut dyn Reporter,
        run: &Path,
        step: u64,
        configuration: &str,
    ) -> io::Result<Self> {
        let folder = run.join(FOLDER);
        fs::create_dir_all(&folder)?;
        let (file, path) = create(&folder)?;
        let mut log = EventLog {
            inner,
            file: Some(BufWriter::new(file)),
            path,
        };
        log.write(&[
            Event::version(),
            Event::session_start(step + 1),
            // Markdown: an indented block is shown as it is.
            Event::values(
                step,
                vec![Value::text("configuration", &indented(configuration))],
            ),
        ]);
        Ok(log)
    }

    /// Appends events; the first failure is told, and ends the file.
    fn write(&mut self, events: &[Event]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs_f64();
        let Some(file) = &mut self.file else { return };
        let result = events
            .iter()
            .try_for_each(|event| record::write(file, &event.at(now)))
            .and_then(|()| file.flush());
        if let Err(error) = result {
            let path = self.path.display();
            self.inner.warning(&format!(
                "{path}: cannot write: {error}; training goes on without TensorBoard's files"
            ));
            self.file = None;
        }
    }
}

/// `events.out.tfevents.SECONDS.PROCESS`, with a number behind where there is one already.
fn create(folder: &Path) -> io::Result<(File, PathBuf)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.unwrap_or_default().as_secs();
    for number in 0..1000 {
        let name = format!(
            "events.out.tfevents.{seconds:010}.{}.{number}",
            std::process::id()
        );
        let path = folder.join(name);
        match File::create_new(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("no free name for an event file"))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

impl Reporter for EventLog<'_> {
    fn note(&mut self, text: &str) {
        self.inner.note(text);
    }

    fn warning(&mut self, text: &str) {
        self.inner.warning(text);
    }

    fn progress(&mut self, what: &str, done: usize, total: usize) {
        self.inner.progress(what, done, total);
    }

    fn started(&mut self, run: &RunInfo<'_>) {
        self.inner.started(run);
    }

    fn step(&mut self, step: &StepInfo) {
        if step.step == 1 || step.step.is_multiple_of(EVERY) {
            let values = vec![
                Value::scalar("step/loss", step.step_loss),
                Value::scalar("step/lr", step.lr),
                Value::scalar("step/samples_per_second", step.images_per_second),
            ];
            self.write(&[Event::values(step.step, values)]);
        }
        self.inner.step(step);
    }

    fn epoch(&mut self, epochs: usize, metrics: &EpochMetrics, took: Duration) {
        let known = [
            ("loss/train", Some(metrics.train_loss)),
            ("loss/val", metrics.val_loss),
            ("accuracy/train", Some(metrics.train_accuracy)),
            ("accuracy/val", metrics.val_accuracy),
            ("top5/val", metrics.val_top5),
            ("macro_auroc/val", metrics.val_macro_auroc),
            ("lr", Some(metrics.lr)),
            ("epoch", Some(metrics.epoch as f64)),
        ];
        let values = known
            .into_iter()
            .filter_map(|(tag, value)| Some(Value::scalar(tag, value?)));
        self.write(&[Event::values(metrics.step, values.collect())]);
        self.inner.epoch(epochs, metrics, took);
    }

    fn finished(&mut self) {
        self.inner.finished();
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn what_is_heard_is_written_and_passed_on() {
        let run = tempfile::tempdir().unwrap();
        let mut heard = Heard::default();
        let mut log = EventLog::new(&mut heard, run.path(), 7, "epochs = 3").unwrap();
        let step = StepInfo {
            epoch: 1,
            epochs: 3,
            batch: 1,
            batches: 4,
            step: 10,
            step_loss: 2.5,
            loss: 2.0,
            accuracy: 0.5,
            lr: 0.1,
            images_per_second: 100.0,
            loader_share: 0.0,
        };
        log.step(&step);
        log.step(&StepInfo { step: 11, ..step });
        log.finished();
        let path = log.path.clone();
        drop(log);
        assert_eq!((heard.steps, heard.finished), (2, true));
        let bytes = fs::read(path).unwrap();
        let events: Vec<Event> = record::read(&bytes)
            .unwrap()
            .iter()
            .map(|record| Event::decode(record.as_slice()).unwrap())
            .collect();
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        assert_eq!(events[1].step, Some(8), "the first step of this session");
        assert!(events[1].session_log.is_some());
        assert_eq!(events.len(), 4, "step 11 is not one of every ten");
        let values = &events[3].summary.as_ref().unwrap().value;
        assert_eq!(values[0].tag.as_deref(), Some("step/loss"));
        assert_eq!(values[0].simple_value, Some(2.5));
        // A second one in the same second gets another name.
        EventLog::new(&mut (), run.path(), 7, "").unwrap();
        let files = fs::read_dir(run.path().join(FOLDER)).unwrap().count();
        assert_eq!(files, 2);
    }

    #[derive(Default)]
    struct Heard {
        steps: usize,
        finished: bool,
    }

    impl Reporter for Heard {
        fn step(&mut self, _step: &StepInfo) {
            self.steps += 1;
        }

        fn finished(&mut self) {
            self.finished = true;
        }
    }
}
