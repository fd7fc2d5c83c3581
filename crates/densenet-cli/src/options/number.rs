//! Numbers on the command line.

/// A whole number, 0 allowed.
pub fn whole(text: &str) -> Result<usize, String> {
    text.trim()
        .parse()
        .map_err(|_| "not a whole number — give digits alone, like 32".to_string())
}

/// A whole number of at least 1.
pub fn positive(text: &str) -> Result<usize, String> {
    match whole(text)? {
        0 => Err("must be at least 1 — leave the option out for the usual value".to_string()),
        number => Ok(number),
    }
}

/// A finite number.
pub fn real(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err("not a number — write it like 0.1 or 1e-4".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_or_refused_with_a_hint() {
        assert_eq!(positive(" 8 "), Ok(8));
        assert_eq!(whole("0"), Ok(0));
        assert_eq!(real("1e-4"), Ok(1e-4));
        for wrong in ["0", "-1", "1.5", "", "99999999999999999999999"] {
            assert!(positive(wrong).unwrap_err().contains(" — "), "{wrong}");
        }
        for wrong in ["nan", "inf", "0,1", "x"] {
            assert!(real(wrong).unwrap_err().contains(" — "), "{wrong}");
        }
    }
}
