//! What a run made, and what to type next.

use std::{path::Path, time::Duration};

use densenet_train::{Outcome, Pace, Summary, report::duration};

use crate::{
    failure::Failure,
    output::{counted, grouped, pairs},
    table::wrap,
};

/// The end of a complete run, in at most `width` columns where commands and paths permit.
pub fn text(summary: &Summary, next_commands: &[String], width: usize) -> String {
    let mut text = wrap(
        &format!("{}: {}", summary.run.display(), summary.reason),
        width,
        2,
    );
    if let Some(line) = pace(&summary.pace) {
        text.push_str(&wrap(&line, width, 2));
    }
    if let Some(test) = &summary.test {
        let mut line = format!(
            "test: accuracy {:.2} %, loss {:.4}",
            100.0 * test.accuracy,
            test.loss
        );
        if let Some(auroc) = test.macro_auroc {
            line.push_str(&format!(", macro AUROC {auroc:.4}"));
        }
        line.push_str(&format!(" ({})", counted(test.samples, "image")));
        text.push_str(&wrap(&line, width, 2));
    }
    let best = match &summary.best {
        Some(best) => format!("the model of the best epoch, {}", best.epoch),
        None => "the model of the best epoch".to_string(),
    };
    let file = |path: &Path, what: &str| (path.display().to_string(), what.to_string());
    let mut files = vec![
        file(&summary.best_model, &best),
        file(&summary.last_model, "the model of the last epoch"),
        file(&summary.metrics, "one line for each epoch"),
        file(&summary.config, "every option as resolved"),
    ];
    if let Some(report) = &summary.report {
        files.insert(
            0,
            file(report, "curves, scores, mistakes: open it in a browser"),
        );
    }
    text.push_str("\nMade\n");
    text.push_str(&indented(&pairs(&files, width.saturating_sub(2))));
    text.push_str("\nNext\n");
    for command in next_commands {
        text.push_str(&format!("  {}\n", as_called(command)));
    }
    text
}

/// `training: 4m 05s, 31.2 images/s, 0.4 % of the time waiting for images`
fn pace(pace: &Pace) -> Option<String> {
    // Nothing where no epoch was timed, as on a disk that refused the file.
    let rate = pace.samples_per_second?;
    let rate = match rate {
        100.0.. => grouped(rate.round() as u64),
        _ => format!("{rate:.1}"),
    };
    let took = duration(Duration::try_from_secs_f64(pace.train_seconds).ok()?);
    let waiting = 100.0 * pace.waiting_share;
    Some(format!(
        "training: {took}, {rate} images/s, {waiting:.1} % of the time waiting for images"
    ))
}

/// A run that a signal stopped after saving.
pub fn interruption(outcome: &Outcome) -> Failure {
    let (signal, run) = match outcome {
        Outcome::Interrupted { signal, run } => (*signal, run.as_deref()),
        Outcome::Finished(_) => (0, None),
    };
    let by = if signal == 15 { "SIGTERM" } else { "Ctrl-C" };
    let message = match (run, outcome.next_commands().first()) {
        (Some(run), Some(command)) => format!(
            "{}: stopped by {by} and saved — `{}` goes on",
            run.display(),
            as_called(command)
        ),
        _ => format!("train: stopped by {by} before the first step — start it again"),
    };
    Failure::new(outcome.exit_code(), message)
}

/// `densenet …` with the path under which this program was called, where it is not simply found by its name.
fn as_called(command: &str) -> String {
    let called = std::env::args().next().unwrap_or_default();
    match command.strip_prefix("densenet ") {
        Some(rest) if called.contains('/') => format!("{called} {rest}"),
        _ => command.to_string(),
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_tells_its_pace() {
        let mut run = Pace {
            train_seconds: 245.2,
            samples_per_second: Some(31.24),
            waiting_share: 0.0042,
            ..Pace::default()
        };
        let line = |run: &Pace| pace(run).unwrap_or_default();
        assert_eq!(
            line(&run),
            "training: 4m 05s, 31.2 images/s, 0.4 % of the time waiting for images"
        );
        run.samples_per_second = Some(2105.7);
        assert!(line(&run).contains(" 2,106 images/s"), "{}", line(&run));
        run.train_seconds = f64::INFINITY;
        assert_eq!(pace(&run), None);
        assert_eq!(pace(&Pace::default()), None);
    }
}
