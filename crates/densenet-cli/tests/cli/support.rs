//! Running the command and looking at what it said.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

/// What one run of the command said.
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Run {
    /// Asserts success and returns standard output.
    #[track_caller]
    pub fn done(self) -> String {
        assert_eq!(self.code, 0, "{}", self.err);
        self.out
    }

    /// Asserts success and exactly one JSON document on standard output.
    #[track_caller]
    pub fn json(self) -> Value {
        let out = self.done();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// Asserts the exit code, one error line with every one of `parts`, and nothing on standard output.
    #[track_caller]
    pub fn fails(self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self.says(parts);
        assert_eq!(self.out, "");
    }

    /// Asserts that the last line of standard error is an error with every one of `parts` and a cure.
    #[track_caller]
    pub fn says(&self, parts: &[&str]) {
        let errors: Vec<_> = self
            .err
            .lines()
            .filter(|l| l.starts_with("error: "))
            .collect();
        assert_eq!(errors.len(), 1, "{}", self.err);
        assert_eq!(
            self.err.lines().last(),
            errors.first().copied(),
            "{}",
            self.err
        );
        assert!(!self.err.contains("panicked"), "{}", self.err);
        let line = errors[0];
        assert!(line.contains(" — "), "no cure: {line}");
        for part in parts {
            assert!(line.contains(part), "{part:?} is not in: {line}");
        }
    }
}

/// A folder of its own in which the command runs.
pub struct Place {
    folder: TempDir,
}

impl Place {
    pub fn new() -> Self {
        Place {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// The path of `name` inside the folder.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, making its folders.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The bytes of a file.
    #[track_caller]
    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The command with the usual surroundings: this folder, 80 columns, no forced instruction set.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_densenet"));
        command
            .current_dir(self.folder.path())
            .env("COLUMNS", "80")
            .env_remove("DENSENET_ISA");
        command
    }

    /// Runs the command as a user whom file permissions bind: the one who runs the test, or `nobody` in place of the
    /// superuser. The folder is opened to that user, and so is a copy of the program, wherever the original lies.
    #[cfg(unix)]
    #[track_caller]
    pub fn run_bound_by_permissions(&self, line: &str) -> Run {
        use std::os::unix::{fs::MetadataExt, fs::PermissionsExt, process::CommandExt};
        let mut command = self.command();
        let superuser = std::fs::metadata(self.folder.path()).unwrap().uid() == 0;
        if superuser {
            let (program, open) = (self.path("program"), PermissionsExt::from_mode(0o777));
            std::fs::copy(env!("CARGO_BIN_EXE_densenet"), &program).unwrap();
            std::fs::set_permissions(self.folder.path(), open).unwrap();
            command = Command::new(program);
            command
                .current_dir(self.folder.path())
                .env("COLUMNS", "80")
                .uid(65534)
                .gid(65534);
        }
        run(command.args(line.split_whitespace()))
    }

    /// Runs the command with the words of `line` as arguments.
    #[track_caller]
    pub fn run(&self, line: &str) -> Run {
        self.run_args(line.split_whitespace())
    }

    /// Runs the command with these arguments.
    #[track_caller]
    pub fn run_args(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run {
        run(self.command().args(args))
    }
}

/// Runs a prepared command.
#[track_caller]
pub fn run(command: &mut Command) -> Run {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    Run {
        code: status.code().expect("ended by a signal"),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

/// Asserts success, silence on standard output, and that the notes on standard error have these parts.
#[track_caller]
pub fn noted(run: Run, parts: &[&str]) {
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(run.out, "");
    for part in parts {
        assert!(run.err.contains(part), "{part:?} is not in:\n{}", run.err);
    }
}
