//! Numbers for the page: short decimals, and bytes as text.

use base64::{Engine, engine::general_purpose::STANDARD};

/// `value` to five significant digits; what is not finite becomes 0 (JSON has no word for it).
pub(crate) fn short(value: f64) -> f64 {
    if !value.is_finite() {
        return 0.0;
    }
    format!("{value:.4e}").parse().unwrap_or(0.0)
}

/// Bytes as base64.
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The smallest and the largest of some numbers, `[0, 0]` of none.
pub(crate) fn range(values: impl IntoIterator<Item = f32>) -> [f32; 2] {
    let [low, high] = values
        .into_iter()
        .fold([f32::INFINITY, f32::NEG_INFINITY], |[low, high], v| {
            [low.min(v), high.max(v)]
        });
    if low <= high { [low, high] } else { [0.0; 2] }
}

/// Where `value` stands between `low` and `high`, as a byte.
pub(crate) fn byte(value: f32, [low, high]: [f32; 2]) -> u8 {
    if high <= low {
        return 0;
    }
    // A cast of a float to an integer saturates.
    ((value - low) / (high - low) * 255.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_digits_stay() {
        assert_eq!(short(0.0), 0.0);
        assert_eq!(short(1.0 / 3.0), 0.33333);
        assert_eq!(short(-123456.7), -123460.0);
        assert_eq!(short(f64::NAN), 0.0);
    }

    #[test]
    fn bytes_span_the_range() {
        assert_eq!(range([2.0, -1.0, 0.5]), [-1.0, 2.0]);
        assert_eq!(range([]), [0.0, 0.0]);
        assert_eq!(byte(-1.0, [-1.0, 2.0]), 0);
        assert_eq!(byte(2.0, [-1.0, 2.0]), 255);
        assert_eq!(byte(7.0, [3.0, 3.0]), 0);
    }
}
