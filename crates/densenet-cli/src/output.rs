//! Standard output: whole documents, written once, quiet about a reader that has left.

use std::io::{self, ErrorKind, IsTerminal, Write};

use densenet_spec::DenseNetConfig;
use densenet_train::{
    Reporter,
    report::{Bar, Plain},
};
use serde_json::Value;

use crate::{
    failure::{Failure, IO},
    table::wrap,
};

/// Writes `text` to standard output.
///
/// # Errors
/// A reader that closed the pipe ends the program quietly and successfully; anything else is an input/output failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Failure::silent(0),
            _ => Failure::new(
                IO,
                format_args!(
                    "standard output: cannot write: {error} — check where it is redirected to"
                ),
            ),
        })
}

/// Writes one JSON document to standard output.
///
/// # Errors
/// As [`print`].
pub fn print_json(document: &Value) -> Result<(), Failure> {
    print(&format!("{document:#}\n"))
}

/// What training and evaluation report to: a bar on a terminal, lines elsewhere; both on standard error.
pub fn reporter() -> Box<dyn Reporter> {
    if io::stderr().is_terminal() {
        Box::new(Bar::new())
    } else {
        Box::new(Plain::new(io::stderr()))
    }
}

/// Writes a message to standard error. A closed standard error is nobody to tell.
pub fn note(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
}

/// `2-D, 3 channels, blocks 6,12,24,16, 1000 classes`
pub fn network(config: &DenseNetConfig) -> String {
    let blocks: Vec<_> = config.block_config.iter().map(usize::to_string).collect();
    format!(
        "{}-D, {}, blocks {}, k={}, {}",
        config.spatial_dims,
        counted(config.in_channels, "channel"),
        blocks.join(","),
        config.growth_rate,
        match config.num_classes {
            1 => "1 class".to_string(),
            classes => format!("{classes} classes"),
        },
    )
}

/// `1 channel`, `3 channels`
pub fn counted(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", grouped(number as u64))
}

/// Columns of the terminal: `COLUMNS` where it is set, the terminal's own width, or 80.
pub fn width() -> usize {
    let asked = std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.trim().parse().ok())
        .filter(|&columns: &usize| columns > 0);
    let own = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    asked.or_else(own).unwrap_or(80).clamp(20, 400)
}

/// `7978856` as `7,978,856`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `7978856` as `7.98 M`: three digits and the power of a thousand.
pub fn short(number: u64) -> String {
    scaled(number as f64, 1000.0, &["", " k", " M", " G", " T", " P"])
}

/// `48234496` as `46.0 MiB`.
pub fn bytes(number: u64) -> String {
    scaled(
        number as f64,
        1024.0,
        &[" B", " KiB", " MiB", " GiB", " TiB", " PiB"],
    )
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    // 999.5 would be shown as 1000.
    while value >= step - 0.5 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{}", units[unit])
}

/// Labels and values, one pair a line, the values aligned, long ones wrapped.
pub fn pairs(pairs: &[(String, String)], width: usize) -> String {
    let label_width = pairs
        .iter()
        .map(|(label, _)| label.chars().count() + 2)
        .max();
    let label_width = label_width.unwrap_or(0);
    pairs
        .iter()
        .map(|(label, value)| wrap(&format!("{label:<label_width$}{value}"), width, label_width))
        .collect()
}

/// `[64, 56, 56]` as `64×56×56`.
pub fn shape(sizes: &[usize]) -> String {
    sizes
        .iter()
        .map(usize::to_string)
        .collect::<Vec<_>>()
        .join("×")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(7_978_856), "7,978,856");
        assert_eq!(short(950), "950");
        assert_eq!(short(7_978_856), "7.98 M");
        assert_eq!(short(999_600), "1.00 M");
        assert_eq!(short(33_337_704), "33.3 M");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(48_234_496), "46.0 MiB");
        assert_eq!(shape(&[1, 3, 224, 224]), "1×3×224×224");
    }
}
