//! The command line: the list of subcommands and how it is read.

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};

use crate::{
    commands::{
        bench, calibrate, check, compare, eval, export, import, infer, init, lr_find, predict,
        summary, train, view,
    },
    failure::{Failure, USAGE},
    usage,
};

/// DenseNet for images and volumes: define, train, evaluate and run it, without Python.
#[derive(Debug, Parser)]
#[command(name = "densenet", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Start here:
  densenet train                            learn the embedded handwritten digits, in under a minute
  densenet summary densenet121              look at a network
  densenet import densenet121.pth -o model.safetensors
  densenet predict model.safetensors photo.jpg

`densenet COMMAND --help` explains a command and ends with examples.";

#[derive(Debug, Subcommand)]
enum Command {
    Summary(summary::Summary),
    Init(init::Init),
    Import(import::Import),
    Export(export::Export),
    Check(Box<check::Check>),
    Train(Box<train::Train>),
    LrFind(Box<lr_find::LrFind>),
    Eval(eval::Eval),
    Compare(compare::Compare),
    Calibrate(calibrate::Calibrate),
    Predict(Box<predict::Predict>),
    Infer(infer::Infer),
    Bench(bench::Bench),
    View(view::View),
}

impl Cli {
    /// Does what the command line asks for.
    ///
    /// # Errors
    /// Whatever stops it, with its exit code.
    pub fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Summary(command) => command.run(),
            Command::Init(command) => command.run(),
            Command::Import(command) => command.run(),
            Command::Export(command) => command.run(),
            Command::Check(command) => command.run(),
            Command::Train(command) => command.run(),
            Command::LrFind(command) => command.run(),
            Command::Eval(command) => command.run(),
            Command::Compare(command) => command.run(),
            Command::Calibrate(command) => command.run(),
            Command::Predict(command) => command.run(),
            Command::Infer(command) => command.run(),
            Command::Bench(command) => command.run(),
            Command::View(command) => command.run(),
        }
    }
}

/// Reads the process's arguments.
///
/// # Errors
/// A command line that cannot be understood (exit code 2); `--help` and `--version` print and end with 0.
pub fn parse() -> Result<Cli, Failure> {
    Cli::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that has left needs no help.
            let _ = error.print();
            Failure::silent(0)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Failure::silent(USAGE)
        }
        _ => Failure::usage(usage::one_line(&error, &Cli::command())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_stands_below_the_options_is_wrapped_by_the_terminal_alone() {
        for command in Cli::command().get_subcommands() {
            let Some(help) = command.get_after_help() else {
                continue;
            };
            let help = help.to_string();
            for (line, next) in help.lines().zip(help.lines().skip(1)) {
                let prose = |line: &str| {
                    !(line.is_empty() || line.starts_with("  ") || line.ends_with(':'))
                };
                assert!(
                    !(prose(line) && prose(next)) || line.ends_with('.'),
                    "{}: a paragraph is broken behind {line:?}",
                    command.get_name()
                );
            }
        }
    }
}
