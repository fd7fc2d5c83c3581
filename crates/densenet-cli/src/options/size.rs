//! Sizes along the axes: `224`, `224x192`, `96x96x64`.

use std::str::FromStr;

/// One to three sizes joined by `x`: one for all axes, or one for each in the order `[depth,] height, width`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size(Vec<usize>);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sizes: Option<Vec<usize>> = text
            .split(['x', '×', 'X'])
            .map(|part| part.trim().parse().ok())
            .collect();
        match sizes {
            Some(sizes) if sizes.len() <= 3 => Ok(Size(sizes)),
            _ => Err(
                "not a size — give one number for all axes or one for each, like 224, 224x192 or 96x96x64"
                    .to_string(),
            ),
        }
    }
}

impl Size {
    /// The sizes as they were given.
    pub fn sides(&self) -> &[usize] {
        &self.0
    }

    /// The sizes as `[depth, height, width]`; in 2-D the depth is `flat`.
    ///
    /// # Errors
    /// The number of sizes is neither one nor `spatial_dims`; the text says so and what to give.
    pub fn axes(&self, spatial_dims: usize, flat: usize) -> Result<[usize; 3], String> {
        match (self.0.as_slice(), spatial_dims) {
            (&[side], 2) => Ok([flat, side, side]),
            (&[side], _) => Ok([side; 3]),
            (&[height, width], 2) => Ok([flat, height, width]),
            (&[depth, height, width], 3) => Ok([depth, height, width]),
            (given, 2) => Err(format!(
                "{} sizes for a 2-D network — give HEIGHTxWIDTH, like 224x192; a preset is 3-D with --dims 3",
                given.len()
            )),
            (given, _) => Err(format!(
                "{} sizes for a 3-D network — give DEPTHxHEIGHTxWIDTH, like 64x96x96",
                given.len()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axes(text: &str, dims: usize) -> Result<[usize; 3], String> {
        text.parse::<Size>()?.axes(dims, 1)
    }

    #[test]
    fn reads_one_size_or_one_for_each_axis() {
        assert_eq!(axes("224", 2), Ok([1, 224, 224]));
        assert_eq!(axes("224x192", 2), Ok([1, 224, 192]));
        assert_eq!(axes("96", 3), Ok([96, 96, 96]));
        assert_eq!(axes("64×96×32", 3), Ok([64, 96, 32]));
        assert!(axes("64x96x32", 2).unwrap_err().contains("--dims 3"));
        assert!(axes("64x96", 3).unwrap_err().contains("64x96x96"));
        for wrong in ["", "x", "-1", "1x2x3x4", "3.5", "224,224"] {
            assert!(axes(wrong, 2).is_err(), "{wrong}");
        }
    }
}
