//! The `densenet` command.
//!
//! It parses the command line, calls the rooms below it, and prints what they answer; it has no logic of its own. One
//! file per subcommand under `commands/`, the option groups that several share under `options/`.
//!
//! # Conventions
//! - Results go to standard output, messages and progress to standard error.
//! - `--json` puts exactly one JSON document on standard output.
//! - An error is one line, `error: FILE: what is wrong — how to fix it`; [`failure`] lists the exit codes.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod failure;
mod machine;
mod options;
mod output;
mod table;
mod usage;

use std::process::ExitCode;

fn main() -> ExitCode {
    failure::guard(|| cli::parse()?.run())
}
