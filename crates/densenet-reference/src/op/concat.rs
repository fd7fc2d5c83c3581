//! Joining a layer's new feature maps with the old ones: the `[x_0, x_1, …]` of the paper's eq. 2.

use densenet_spec::ConcatOrder;

use crate::Tensor;

/// `[old, new]` or `[new, old]` along the channels.
///
/// # Panics
/// Batch or size differ.
pub fn forward(old: &Tensor, new: &Tensor, order: ConcatOrder) -> Tensor {
    assert_eq!((old.batch, old.spatial), (new.batch, new.spatial));
    let (first, second) = match order {
        ConcatOrder::OldNew => (old, new),
        ConcatOrder::NewOld => (new, old),
    };
    let mut output = Tensor::zeros(old.batch, old.channels + new.channels, old.spatial);
    for n in 0..old.batch {
        for c in 0..first.channels {
            output.map_mut(n, c).copy_from_slice(first.map(n, c));
        }
        for c in 0..second.channels {
            let to = first.channels + c;
            output.map_mut(n, to).copy_from_slice(second.map(n, c));
        }
    }
    output
}

/// The gradient's `(old, new)` parts: each channel's goes back to where the channel came from.
///
/// # Panics
/// There are fewer channels than `new_channels`.
pub fn backward(grad_output: &Tensor, new_channels: usize, order: ConcatOrder) -> (Tensor, Tensor) {
    let old_channels = grad_output.channels - new_channels;
    let (old_start, new_start) = match order {
        ConcatOrder::OldNew => (0, old_channels),
        ConcatOrder::NewOld => (new_channels, 0),
    };
    let part = |start: usize, channels: usize| {
        let mut part = Tensor::zeros(grad_output.batch, channels, grad_output.spatial);
        for n in 0..grad_output.batch {
            for c in 0..channels {
                part.map_mut(n, c)
                    .copy_from_slice(grad_output.map(n, start + c));
            }
        }
        part
    };
    (part(old_start, old_channels), part(new_start, new_channels))
}
