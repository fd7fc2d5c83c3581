//! The comparator: when two lists of numbers agree, and a useful account of it when they do not.

use std::fmt;

/// How far a number may lie from the expected one: `|actual − expected| ≤ atol + rtol · |expected|`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Absolute part.
    pub atol: f64,
    /// Part relative to each expected element.
    pub rtol: f64,
}

impl Tolerance {
    /// Equal as numbers (`-0.0` equals `0.0`).
    pub const EXACT: Tolerance = Tolerance {
        atol: 0.0,
        rtol: 0.0,
    };

    /// The same bound for every element.
    pub const fn absolute(atol: f64) -> Self {
        Tolerance { atol, rtol: 0.0 }
    }

    /// `share` of the largest finite magnitude in `expected`, for every element.
    ///
    /// For gradients: an element that is small because large terms cancelled carries the error of the large terms.
    pub fn of_peak<T: Copy + Into<f64>>(expected: &[T], share: f64) -> Self {
        let peak = expected
            .iter()
            .map(|&e| e.into().abs())
            .filter(|e| e.is_finite())
            .fold(0.0, f64::max);
        Tolerance::absolute(share * peak)
    }

    /// The bound for one sum of products whose terms' magnitudes add up to `sum_abs = Σ|a||b|`.
    ///
    /// |computed − exact| ≤ `c` · `eps` · Σ|a||b|. For n terms added one after the other c = n holds always; rounding
    /// errors that add up like a random walk stay below c = a few √n; blocked or pairwise sums below c = log₂ n + the
    /// block's length.
    ///
    /// # Source
    /// Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., §3.1, eq. 3.5.
    pub fn dot_product(c: f64, eps: f64, sum_abs: f64) -> Self {
        Tolerance::absolute(c * eps * sum_abs)
    }

    fn bound(self, expected: f64) -> f64 {
        self.atol + self.rtol * expected.abs()
    }

    fn is_valid(self) -> bool {
        let ok = |t: f64| t.is_finite() && t >= 0.0;
        ok(self.atol) && ok(self.rtol)
    }
}

/// What a successful comparison saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Number of elements compared, at least one.
    pub elements: usize,
    /// Largest |actual − expected| among finite pairs.
    pub max_error: f64,
    /// Largest share of its bound that an element used up; 0 where bound and error are both 0.
    pub max_share: f64,
}

/// Why two lists of numbers do not agree.
#[derive(Debug, Clone, PartialEq)]
pub enum Mismatch {
    /// They do not have the same shape (or length).
    Shape {
        /// What was compared.
        name: String,
        /// The shape found.
        actual: Vec<usize>,
        /// The shape expected.
        expected: Vec<usize>,
    },
    /// Nothing was compared, so nothing was tested.
    Empty {
        /// What was compared.
        name: String,
    },
    /// A bound is negative, infinite or NaN: everything, or nothing, would pass.
    Tolerance {
        /// What was compared.
        name: String,
        /// The offending bound.
        tolerance: String,
    },
    /// Elements differ.
    Values {
        /// What was compared.
        name: String,
        /// How many elements are out of bounds, non-finite ones included.
        wrong: usize,
        /// How many were compared.
        elements: usize,
        /// How many are NaN or infinite on one side without being the same infinity on the other.
        non_finite: usize,
        /// Flat index of the worst element: the first non-finite one, else the one furthest beyond its bound.
        index: usize,
        /// The value found there.
        actual: f64,
        /// The value expected there.
        expected: f64,
        /// The bound there.
        bound: f64,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Shape {
                name,
                actual,
                expected,
            } => write!(f, "{name}: shape {actual:?}, expected {expected:?}"),
            Mismatch::Empty { name } => write!(f, "{name}: no elements, so nothing was compared"),
            Mismatch::Tolerance { name, tolerance } => {
                write!(f, "{name}: {tolerance} is no tolerance")
            }
            Mismatch::Values {
                name,
                wrong,
                elements,
                non_finite,
                index,
                actual,
                expected,
                bound,
            } => write!(
                f,
                "{name}: {wrong} of {elements} elements differ ({non_finite} of them non-finite); worst at [{index}]: \
                 {actual:e}, expected {expected:e}, off by {:e}, allowed {bound:e}",
                (actual - expected).abs()
            ),
        }
    }
}

impl std::error::Error for Mismatch {}

/// Compares element by element.
///
/// A pair passes when both are finite and within the tolerance, or when both are the same infinity. NaN never passes,
/// on either side: where a test wants NaN, it asks for it with `is_nan`.
///
/// # Errors
/// Different lengths, nothing to compare, a tolerance that is none, or elements out of bounds.
pub fn compare<A, E>(
    actual: &[A],
    expected: &[E],
    tolerance: Tolerance,
    name: &str,
) -> Result<Comparison, Mismatch>
where
    A: Copy + Into<f64>,
    E: Copy + Into<f64>,
{
    if !tolerance.is_valid() {
        return Err(Mismatch::Tolerance {
            name: name.into(),
            tolerance: format!("{tolerance:?}"),
        });
    }
    compare_with(actual, expected, |_, e| tolerance.bound(e), name)
}

/// Compares element by element, each with its own absolute bound: `c · eps · Σ|a||b|` from a run on absolute values.
///
/// # Errors
/// As [`compare`]; a bound missing, surplus, negative, infinite or NaN is an error as well.
pub fn compare_each<A, E>(
    actual: &[A],
    expected: &[E],
    bounds: &[f64],
    name: &str,
) -> Result<Comparison, Mismatch>
where
    A: Copy + Into<f64>,
    E: Copy + Into<f64>,
{
    if bounds.len() != expected.len() {
        return Err(Mismatch::Shape {
            name: format!("{name} (bounds)"),
            actual: vec![bounds.len()],
            expected: vec![expected.len()],
        });
    }
    if let Some(bad) = bounds.iter().find(|b| !(b.is_finite() && **b >= 0.0)) {
        return Err(Mismatch::Tolerance {
            name: name.into(),
            tolerance: bad.to_string(),
        });
    }
    compare_with(actual, expected, |i, _| bounds[i], name)
}

/// Compares two shapes.
///
/// # Errors
/// They differ.
pub fn compare_shapes(actual: &[usize], expected: &[usize], name: &str) -> Result<(), Mismatch> {
    if actual == expected {
        return Ok(());
    }
    Err(Mismatch::Shape {
        name: name.into(),
        actual: actual.to_vec(),
        expected: expected.to_vec(),
    })
}

/// [`compare`], for tests.
///
/// # Panics
/// The comparison fails; the message is the [`Mismatch`]'s.
#[track_caller]
pub fn assert_close<A, E>(
    actual: &[A],
    expected: &[E],
    tolerance: Tolerance,
    name: &str,
) -> Comparison
where
    A: Copy + Into<f64>,
    E: Copy + Into<f64>,
{
    match compare(actual, expected, tolerance, name) {
        Ok(comparison) => comparison,
        Err(mismatch) => panic!("{mismatch}"),
    }
}

fn compare_with<A, E>(
    actual: &[A],
    expected: &[E],
    bound_of: impl Fn(usize, f64) -> f64,
    name: &str,
) -> Result<Comparison, Mismatch>
where
    A: Copy + Into<f64>,
    E: Copy + Into<f64>,
{
    compare_shapes(&[actual.len()], &[expected.len()], name)?;
    if actual.is_empty() {
        return Err(Mismatch::Empty { name: name.into() });
    }
    let (mut wrong, mut non_finite) = (0, 0);
    let (mut max_error, mut max_share) = (0.0f64, 0.0f64);
    // (by how much the worst element misses: infinite for non-finite ones, else error over bound; its index)
    let mut worst: Option<(f64, usize)> = None;
    for (i, (&a, &e)) in actual.iter().zip(expected).enumerate() {
        let (a, e): (f64, f64) = (a.into(), e.into());
        if !(a.is_finite() && e.is_finite()) {
            if a == e {
                continue; // the same infinity
            }
            wrong += 1;
            non_finite += 1;
            if worst.is_none_or(|(miss, _)| miss < f64::INFINITY) {
                worst = Some((f64::INFINITY, i));
            }
            continue;
        }
        let (error, bound) = ((a - e).abs(), bound_of(i, e));
        max_error = max_error.max(error);
        if error <= bound {
            if bound > 0.0 {
                max_share = max_share.max(error / bound);
            }
            continue;
        }
        wrong += 1;
        // A bound of 0 makes every miss infinitely large; MAX keeps it below the non-finite ones.
        let miss = (error / bound).min(f64::MAX);
        if worst.is_none_or(|(most, _)| miss > most) {
            worst = Some((miss, i));
        }
    }
    let Some((_, index)) = worst else {
        return Ok(Comparison {
            elements: actual.len(),
            max_error,
            max_share,
        });
    };
    let expected_there = expected[index].into();
    Err(Mismatch::Values {
        name: name.into(),
        wrong,
        elements: actual.len(),
        non_finite,
        index,
        actual: actual[index].into(),
        expected: expected_there,
        bound: bound_of(index, expected_there),
    })
}

#[cfg(test)]
mod tests;
