//! Numbers as people read them.

/// `12,345`
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Three decimals, `—` where there is none.
pub(crate) fn share(value: Option<f64>) -> String {
    value.map_or("—".into(), |v| format!("{v:.3}"))
}

/// Four significant digits at most, without trailing zeros; very small and large ones with a power of ten.
pub(crate) fn plain(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if !value.is_finite() {
        return value.to_string();
    }
    let exponent = value.abs().log10().floor() as i32;
    if !(-4..7).contains(&exponent) {
        let text = format!("{value:.2e}");
        return match text.split_once('e') {
            Some((mantissa, power)) => format!("{}e{power}", trimmed(mantissa)),
            None => text,
        };
    }
    let decimals = usize::try_from((3 - exponent).max(0)).unwrap_or(0);
    trimmed(&format!("{value:.decimals$}"))
}

fn trimmed(text: &str) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    } else {
        text.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (value, text) in [
            (0.0, "0"),
            (0.1, "0.1"),
            (1.0 / 3.0, "0.3333"),
            (12.3456, "12.35"),
            (100.0, "100"),
            (0.0001, "0.0001"),
            (1e-5, "1e-5"),
            (1.234e-7, "1.23e-7"),
            (123_456.0, "123456"),
            (1e9, "1e9"),
            (-2.5, "-2.5"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(plain(value), text);
        }
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(
            (share(None), share(Some(0.12345))),
            ("—".into(), "0.123".into())
        );
    }
}
