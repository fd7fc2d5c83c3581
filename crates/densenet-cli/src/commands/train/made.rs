//! What a run made, and what to type next.

use std::path::Path;

use densenet_train::{Outcome, Summary};

use crate::{
    failure::Failure,
    output::{counted, pairs},
    table::wrap,
};

/// The end of a complete run, in at most `width` columns where commands and paths permit.
pub fn text(summary: &Summary, next_commands: &[String], width: usize) -> String {
    let mut text = wrap(
        &format!("{}: {}", summary.run.display(), summary.reason),
        width,
        2,
    );
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
