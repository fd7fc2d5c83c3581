//! One piece of memory for maps that are never alive at the same time: the stem's, and those of the backward pass through
//! the rest of the network.
//!
//! The stem's map is the largest of a network with a pooling stem, and needed twice: right after the convolution, and at
//! the very end of the backward pass, when all others are done with. In a volume it would be a sixth of what a step keeps
//! and is computed twice instead; an image's is kept, unless memory matters most.

use densenet_kernels::Buffer;

/// The memory, and where each map begins in it.
#[derive(Default)]
pub(super) struct Overlay {
    memory: Buffer,
    lengths: Lengths,
}

/// Elements of each map.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lengths {
    /// The stem convolution's output, where a norm or a pooling follows.
    pub stem: usize,
    /// Whether the stem's map has a place of its own.
    pub keeps_stem: bool,
    pub grad_block: usize,
    pub grad_new: usize,
    pub grad_bottleneck: usize,
    /// A transition's input after pooling; its gradient is as long.
    pub pooled: usize,
}

/// The maps outside the stem.
pub(super) struct Maps<'a> {
    /// The gradient of the block's buffer at hand.
    pub grad_block: &'a mut [f32],
    /// The gradient of a layer's new features with a border.
    pub grad_new: &'a mut [f32],
    /// The gradient of a bottleneck.
    pub grad_bottleneck: &'a mut [f32],
    /// A transition's input after pooling, and its gradient.
    pub pooled: &'a mut [f32],
    pub grad_pooled: &'a mut [f32],
}

/// Elements from one map's end to the next one's start, at least: as much as a kernel may read behind an end.
const GAP: usize = 64;

impl Lengths {
    fn maps(&self) -> [usize; 5] {
        [
            self.grad_block,
            self.grad_new,
            self.grad_bottleneck,
            self.pooled,
            self.pooled,
        ]
    }

    /// Where the maps outside the stem end.
    fn end(&self) -> usize {
        self.maps().into_iter().map(spaced).sum()
    }

    /// Where the stem's map begins.
    fn stem_start(&self) -> usize {
        match self.keeps_stem {
            true => self.end(),
            false => 0,
        }
    }

    /// Elements of the memory.
    pub(super) fn total(&self) -> usize {
        self.end().max(self.stem_start() + self.stem)
    }
}

/// A map with the gap behind it, so that the next one is aligned as well as this one.
fn spaced(len: usize) -> usize {
    (len + GAP).next_multiple_of(GAP)
}

impl Overlay {
    /// Makes room for maps of these lengths. What was there is lost.
    pub(super) fn reserve(&mut self, lengths: Lengths) {
        self.lengths = lengths;
        if self.memory.len() < lengths.total() {
            self.memory = Buffer::in_large_pages(lengths.total());
        }
    }

    /// Whether the stem's map is still there when the backward pass comes to it.
    pub(super) fn keeps_stem(&self) -> bool {
        self.lengths.keeps_stem
    }

    /// The stem convolution's output, or its gradient; unless it is kept, what [`Overlay::maps`] gave is lost.
    pub(super) fn stem(&mut self) -> &mut [f32] {
        &mut self.memory[self.lengths.stem_start()..][..self.lengths.stem]
    }

    /// The maps outside the stem; unless it is kept, the stem's is lost.
    pub(super) fn maps(&mut self) -> Maps<'_> {
        let mut rest = &mut self.memory[..];
        let [grad_block, grad_new, grad_bottleneck, pooled, grad_pooled] =
            self.lengths.maps().map(|len| {
                let (map, behind) = std::mem::take(&mut rest).split_at_mut(spaced(len));
                rest = behind;
                &mut map[..len]
            });
        Maps {
            grad_block,
            grad_new,
            grad_bottleneck,
            pooled,
            grad_pooled,
        }
    }
}
