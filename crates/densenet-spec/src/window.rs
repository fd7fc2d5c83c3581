//! Sliding windows: kernel, stride and padding along `[depth, height, width]`.

/// The window of a convolution or a pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Extent along `[depth, height, width]`.
    pub kernel: [usize; 3],
    /// Step along each axis.
    pub stride: [usize; 3],
    /// Implicit border on both sides of each axis.
    pub padding: [usize; 3],
}

impl Window {
    /// A window of one pixel: the 1×1 convolution.
    pub const POINT: Window = Window {
        kernel: [1; 3],
        stride: [1; 3],
        padding: [0; 3],
    };

    /// The same kernel, stride and padding along every axis that `spatial_dims` has; one pixel along the others.
    pub fn cube(spatial_dims: usize, kernel: usize, stride: usize, padding: usize) -> Self {
        let along = |value, otherwise| {
            if spatial_dims == 3 {
                [value; 3]
            } else {
                [otherwise, value, value]
            }
        };
        Window {
            kernel: along(kernel, 1),
            stride: along(stride, 1),
            padding: along(padding, 0),
        }
    }

    /// Number of taps, `kd·kh·kw`.
    pub fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// The output size along each axis, `⌊(input + 2·padding − kernel) / stride⌋ + 1`, or the first axis along which
    /// the window does not fit.
    pub fn output(&self, input: [usize; 3]) -> Result<[usize; 3], usize> {
        let mut output = [0; 3];
        for axis in 0..3 {
            let padded = input[axis] + 2 * self.padding[axis];
            if padded < self.kernel[axis] || input[axis] == 0 {
                return Err(axis);
            }
            output[axis] = (padded - self.kernel[axis]) / self.stride[axis] + 1;
        }
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imagenet_stem_halves_and_rounds_as_pytorch() {
        let stem = Window::cube(2, 7, 2, 3);
        assert_eq!(stem.output([1, 224, 29]), Ok([1, 112, 15]));
        let pool = Window::cube(3, 2, 2, 0);
        assert_eq!(pool.output([3, 2, 7]), Ok([1, 1, 3]));
        assert_eq!(pool.output([3, 1, 7]), Err(1));
    }
}
