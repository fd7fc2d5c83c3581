//! Sizes of axes that may not be known yet.

use std::fmt;

use densenet_spec::Window;

use crate::proto::tensor_shape_proto::dimension;

/// The size of one axis: a number, or what windows have made of a size that is known only when the network runs.
///
/// A window takes an axis of `x` pixels to `⌊(x + 2·padding − kernel) / stride⌋ + 1`. Rounding down twice is rounding
/// down once, `⌊(⌊(x + a) / b⌋ + c) / d⌋ = ⌊(x + a + b·c) / (b·d)⌋`, so however many windows follow each other, the size
/// stays `⌊(x + add) / by⌋` exactly. DenseNet-121 makes of `height`: `(height + 1)//2`, `(height + 3)//4`,
/// `(height + 3)//8`, `(height + 3)//16`, `(height + 3)//32`. Equal names are therefore equal sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Known(usize),
    Symbol {
        name: &'static str,
        add: i64,
        by: i64,
    },
}

impl Extent {
    /// The size called `name`.
    pub(crate) fn symbol(name: &'static str) -> Self {
        Extent::Symbol {
            name,
            add: 0,
            by: 1,
        }
    }

    /// What `window` leaves along `axis`; none where a known size is too small for it.
    pub(crate) fn through(self, window: &Window, axis: usize) -> Option<Self> {
        let (kernel, stride) = (window.kernel[axis], window.stride[axis]);
        let padding = window.padding[axis];
        Some(match self {
            Extent::Known(size) => {
                Extent::Known((size + 2 * padding).checked_sub(kernel)? / stride + 1)
            }
            Extent::Symbol { name, add, by } => {
                let (kernel, stride) = (kernel as i64, stride as i64);
                let more = 2 * padding as i64 - kernel + stride;
                Extent::Symbol {
                    name,
                    add: add.checked_add(by.checked_mul(more)?)?,
                    by: by.checked_mul(stride)?,
                }
            }
        })
    }
}

/// `7`, `height`, `height + 1`, `(height + 3)//32`, as Python would compute it.
impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Extent::Known(size) => write!(f, "{size}"),
            Extent::Symbol { name, add, by } => {
                let sum = match add {
                    0 => name.to_string(),
                    1.. => format!("{name} + {add}"),
                    _ => format!("{name} - {}", add.unsigned_abs()),
                };
                match (add, by) {
                    (_, 1) => write!(f, "{sum}"),
                    (0, _) => write!(f, "{sum}//{by}"),
                    _ => write!(f, "({sum})//{by}"),
                }
            }
        }
    }
}

impl From<Extent> for dimension::Value {
    fn from(extent: Extent) -> Self {
        match extent {
            Extent::Known(size) => dimension::Value::DimValue(size as i64),
            symbol => dimension::Value::DimParam(symbol.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the expression says, computed.
    fn value(extent: Extent, of: usize) -> usize {
        match extent {
            Extent::Known(size) => size,
            Extent::Symbol { add, by, .. } => (of as i64 + add).div_euclid(by) as usize,
        }
    }

    #[test]
    fn names_of_sizes_are_exact() {
        let windows = [
            Window::cube(2, 7, 2, 3),
            Window::cube(2, 3, 2, 1),
            Window::cube(2, 3, 1, 1),
            Window::cube(2, 2, 2, 0),
            Window::cube(2, 4, 3, 2),
            Window::cube(2, 2, 2, 0),
        ];
        for size in 40..400 {
            let mut known = Extent::Known(size);
            let mut symbol = Extent::symbol("width");
            for window in &windows {
                known = known.through(window, 2).unwrap();
                symbol = symbol.through(window, 2).unwrap();
                assert_eq!(Extent::Known(value(symbol, size)), known, "{size}");
            }
        }
    }

    #[test]
    fn names_read_well() {
        let stem = Window::cube(2, 7, 2, 3);
        let half = Extent::symbol("height").through(&stem, 1).unwrap();
        assert_eq!(half.to_string(), "(height + 1)//2");
        let pool = Window::cube(2, 2, 2, 0);
        let plain = Extent::symbol("height").through(&pool, 1).unwrap();
        assert_eq!(plain.to_string(), "height//2");
        let same = Window::cube(2, 3, 1, 1);
        assert_eq!(half.through(&same, 1), Some(half));
        assert_eq!(Extent::Known(1).through(&pool, 1), None);
        let even = Window::cube(2, 4, 1, 2);
        let more = Extent::symbol("height").through(&even, 1).unwrap();
        assert_eq!(more.to_string(), "height + 1");
    }
}
