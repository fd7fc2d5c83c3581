//! The parser's complaints as one line with a hint.

use clap::{
    Command, Error,
    error::{ContextKind, ContextValue, ErrorKind},
};
use densenet_spec::closest;

/// One line that says what is wrong with the command line and what to type instead.
pub fn one_line(error: &Error, command: &Command) -> String {
    let argument = || first(error, ContextKind::InvalidArg).map(|a| option_name(&a));
    let value = || first(error, ContextKind::InvalidValue).unwrap_or_default();
    let suggestion = |kind| first(error, kind).map(|s| format!("did you mean {s}?"));
    let help = help_hint(command);
    let (what, hint) = match error.kind() {
        ErrorKind::UnknownArgument => {
            let unknown = argument().unwrap_or_default();
            let text = match unknown.parse::<f64>() {
                Ok(_) => format!("{unknown}: a negative number cannot be given here"),
                Err(_) => format!("{unknown}: no such option or argument"),
            };
            (Some(text), suggestion(ContextKind::SuggestedArg))
        }
        ErrorKind::InvalidSubcommand => (
            first(error, ContextKind::InvalidSubcommand).map(|s| format!("{s}: no such command")),
            suggestion(ContextKind::SuggestedSubcommand),
        ),
        ErrorKind::InvalidValue => (
            argument().map(|a| match value() {
                v if v.is_empty() => format!("{a}: needs a value"),
                v => format!("{a} {v}: no such choice"),
            }),
            suggestion(ContextKind::SuggestedValue).or_else(|| {
                let valid = all(error, ContextKind::ValidValue);
                match closest(&value(), valid.iter().map(String::as_str)) {
                    Some(likely) => Some(format!("did you mean {likely}?")),
                    None if valid.is_empty() => None,
                    None => Some(format!("one of {}", valid.join(", "))),
                }
            }),
        ),
        ErrorKind::ValueValidation => {
            let cause = std::error::Error::source(error).map(|cause| cause.to_string());
            let shown = argument().map(|a| format!("{a} {}", value()));
            match cause.as_deref().map(|cause| cause.split_once(" — ")) {
                Some(Some((what, cure))) => (
                    shown.map(|s| format!("{s}: {what}")),
                    Some(cure.to_string()),
                ),
                _ => (
                    shown.map(|s| format!("{s}: {}", cause.unwrap_or_default())),
                    None,
                ),
            }
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = all(error, ContextKind::InvalidArg);
            let text = (!missing.is_empty()).then(|| format!("missing: {}", missing.join(", ")));
            (text, None)
        }
        ErrorKind::ArgumentConflict => {
            let prior = all(error, ContextKind::PriorArg);
            let prior: Vec<_> = prior.iter().map(|a| option_name(a)).collect();
            let text = argument().map(|a| {
                if prior.is_empty() || prior.contains(&a) {
                    format!("{a}: given more than once")
                } else {
                    format!("{a}: not together with {}", prior.join(", "))
                }
            });
            (text, Some("leave one of them out".to_string()))
        }
        _ => (None, None),
    };
    let what = what.unwrap_or_else(|| {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or("cannot understand it");
        format!("command line: {}", line.trim_start_matches("error: "))
    });
    format!("{what} — {}", hint.unwrap_or(help))
}

/// `see densenet summary --help`, for the subcommand that was typed.
fn help_hint(command: &Command) -> String {
    let typed = std::env::args().nth(1).unwrap_or_default();
    match command.find_subcommand(&typed) {
        Some(subcommand) => format!("see `densenet {} --help`", subcommand.get_name()),
        None => "see `densenet --help`".to_string(),
    }
}

/// `--input <SIZE>` as `--input`; `<MODEL>` as `MODEL`.
fn option_name(argument: &str) -> String {
    let name = argument.split([' ', '=']).next().unwrap_or(argument);
    name.trim_matches(['<', '>', '[', ']', '.']).to_string()
}

fn first(error: &Error, kind: ContextKind) -> Option<String> {
    all(error, kind).into_iter().next()
}

fn all(error: &Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}
