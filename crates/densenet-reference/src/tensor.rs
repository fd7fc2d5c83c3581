//! The one kind of array: feature maps of a batch.

/// Feature maps, `[batch][channel][depth][height][width]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Samples.
    pub batch: usize,
    /// Feature maps per sample.
    pub channels: usize,
    /// `[depth, height, width]` of each map.
    pub spatial: [usize; 3],
    /// The values.
    pub data: Vec<f64>,
}

impl Tensor {
    /// Wraps values.
    ///
    /// # Panics
    /// Their number is not batch · channels · depth · height · width.
    pub fn new(batch: usize, channels: usize, spatial: [usize; 3], data: Vec<f64>) -> Self {
        let tensor = Tensor {
            batch,
            channels,
            spatial,
            data,
        };
        assert_eq!(
            tensor.data.len(),
            batch * channels * tensor.pixels(),
            "elements of [{batch}, {channels}, {spatial:?}]"
        );
        tensor
    }

    /// All zeros.
    pub fn zeros(batch: usize, channels: usize, spatial: [usize; 3]) -> Self {
        let len = batch * channels * spatial.iter().product::<usize>();
        Tensor::new(batch, channels, spatial, vec![0.0; len])
    }

    /// Zeros of the same shape.
    pub fn zeros_like(&self) -> Self {
        Tensor::zeros(self.batch, self.channels, self.spatial)
    }

    /// Pixels of one map.
    pub fn pixels(&self) -> usize {
        self.spatial.iter().product()
    }

    /// Channel `c` of sample `n`: one feature map, rows one after the other.
    pub fn map(&self, n: usize, c: usize) -> &[f64] {
        let pixels = self.pixels();
        let start = (n * self.channels + c) * pixels;
        &self.data[start..start + pixels]
    }

    /// [`Tensor::map`] for writing.
    pub fn map_mut(&mut self, n: usize, c: usize) -> &mut [f64] {
        let pixels = self.pixels();
        let start = (n * self.channels + c) * pixels;
        &mut self.data[start..start + pixels]
    }

    /// Adds `other` element by element.
    ///
    /// # Panics
    /// The shapes differ.
    pub fn add(&mut self, other: &Tensor) {
        assert_eq!(
            (self.batch, self.channels, self.spatial),
            (other.batch, other.channels, other.spatial)
        );
        for (a, b) in self.data.iter_mut().zip(&other.data) {
            *a += b;
        }
    }
}
