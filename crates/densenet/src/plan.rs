//! The architecture as the engine walks it: where each layer's parameters lie.

use std::ops::Range;

use densenet_spec::{Architecture, DenseNetConfig, Op, Window};

use crate::{NetworkError, parameters::Table};

/// The network's stages with the places of their parameters.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub architecture: Architecture,
    pub table: Table,
    pub stem: Stem,
    pub blocks: Vec<Block>,
    /// One after every block but the last.
    pub transitions: Vec<Transition>,
    pub final_norm: Option<Norm>,
    pub classifier: Linear,
    /// Length of the arena of folded norms.
    pub folded: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Stem {
    pub conv: Conv,
    pub norm: Option<Norm>,
    pub pool: Option<Window>,
}

#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub stage: usize,
    pub c_in: usize,
    pub c_out: usize,
    pub layers: Vec<DenseLayer>,
}

#[derive(Debug, Clone)]
pub(crate) struct DenseLayer {
    /// Index of `norm1` in the architecture's layers; the dense layer's key for dropout.
    pub index: usize,
    /// Indices of its layers in the architecture.
    pub layers: Range<usize>,
    pub c_in: usize,
    pub norm1: Norm,
    pub conv1: Conv,
    /// norm2 and conv2, where there is a bottleneck.
    pub bottleneck: Option<(Norm, Conv)>,
}

impl DenseLayer {
    /// The convolution that makes the new features.
    pub fn last(&self) -> &Conv {
        self.bottleneck
            .as_ref()
            .map_or(&self.conv1, |(_, conv2)| conv2)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Transition {
    pub stage: usize,
    pub norm: Norm,
    pub conv: Conv,
    pub pool: Window,
}

/// A convolution's weight.
#[derive(Debug, Clone)]
pub(crate) struct Conv {
    pub window: Window,
    pub c_in: usize,
    pub c_out: usize,
    pub weight: Range<usize>,
    /// Index of the weight in the architecture's parameters.
    pub parameter: usize,
}

impl Conv {
    /// `[taps, c_in, c_out]`
    pub fn sizes(&self) -> [usize; 3] {
        [self.window.taps(), self.c_in, self.c_out]
    }
}

/// A norm's parameters, running statistics and folded form.
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    /// Index in the architecture's layers.
    pub layer: usize,
    pub channels: usize,
    pub gamma: Range<usize>,
    pub beta: Range<usize>,
    pub running_mean: Range<usize>,
    pub running_var: Range<usize>,
    /// Index of γ in the architecture's parameters; β and the running statistics follow.
    pub parameter: usize,
    /// `scale` then `shift` in the arena of folded norms.
    pub folded: Range<usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct Linear {
    pub c_in: usize,
    pub c_out: usize,
    pub weight: Range<usize>,
    pub bias: Range<usize>,
    /// Index of the weight in the architecture's parameters; the bias follows.
    pub parameter: usize,
}

/// A run of a classifier's input channels.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    /// Its first channel.
    pub first: usize,
    /// The product of this run.
    pub conv: Conv,
}

impl Linear {
    /// Most elements of a piece's weight, unless one channel has more.
    const PIECE: usize = 1 << 18;

    /// The 1×1 convolution that it is.
    pub fn as_conv(&self) -> Conv {
        Conv {
            window: Window::POINT,
            c_in: self.c_in,
            c_out: self.c_out,
            weight: self.weight.clone(),
            parameter: self.parameter,
        }
    }

    /// The pieces that the backward pass takes one after the other: packed weight, partial sums and gradient are as large
    /// as a piece only.
    pub fn pieces(&self) -> impl ExactSizeIterator<Item = Piece> {
        let whole = self.as_conv();
        let channels = (Self::PIECE / self.c_out.max(1)).clamp(1, self.c_in.max(1));
        (0..self.c_in.div_ceil(channels)).map(move |i| {
            let first = i * channels;
            let c_in = channels.min(whole.c_in - first);
            let start = whole.weight.start + first * whole.c_out;
            Piece {
                first,
                conv: Conv {
                    c_in,
                    weight: start..start + c_in * whole.c_out,
                    ..whole.clone()
                },
            }
        })
    }
}

impl Plan {
    pub(crate) fn new(config: &DenseNetConfig) -> Result<Self, NetworkError> {
        let architecture = Architecture::new(config)?;
        let table = Table::new(&architecture);
        let mut walk = Walk {
            architecture: &architecture,
            table: &table,
            next: 0,
            folded: 0,
        };
        let stem = walk.stem();
        let (mut blocks, mut transitions) = (Vec::new(), Vec::new());
        for (i, block) in architecture.blocks().iter().enumerate() {
            blocks.push(Block {
                stage: block.stage,
                c_in: block.c_in,
                c_out: block.c_out,
                layers: block
                    .layers
                    .iter()
                    .map(|l| walk.dense_layer(l.bottleneck > 0))
                    .collect(),
            });
            if let Some(transition) = architecture.transitions().get(i) {
                transitions.push(walk.transition(transition.stage));
            }
        }
        let final_norm = config.final_norm.then(|| {
            let norm = walk.norm();
            walk.skip();
            norm
        });
        walk.skip();
        let classifier = walk.linear();
        let folded = walk.folded;
        Ok(Plan {
            stem,
            blocks,
            transitions,
            final_norm,
            classifier,
            folded,
            architecture,
            table,
        })
    }

    /// Every norm of the network with its stage.
    pub(crate) fn norms(&self) -> impl Iterator<Item = &Norm> {
        let layers = self.blocks.iter().flat_map(|b| &b.layers);
        let in_blocks = layers
            .flat_map(|l| std::iter::once(&l.norm1).chain(l.bottleneck.as_ref().map(|(n, _)| n)));
        self.stem
            .norm
            .iter()
            .chain(in_blocks)
            .chain(self.transitions.iter().map(|t| &t.norm))
            .chain(&self.final_norm)
    }
}

/// Takes the architecture's layers one after the other.
struct Walk<'a> {
    architecture: &'a Architecture,
    table: &'a Table,
    next: usize,
    folded: usize,
}

impl Walk<'_> {
    fn skip(&mut self) {
        self.next += 1;
    }

    fn peek(&self) -> Option<&Op> {
        self.architecture.layers().get(self.next).map(|l| &l.op)
    }

    /// The ranges of the next layer's tensors.
    fn take(&mut self) -> (usize, Vec<Range<usize>>) {
        let layer = self.next;
        self.next += 1;
        let tensors = self.architecture.layers()[layer].parameters.clone();
        let ranges = self.table.entries[tensors].iter().map(|e| e.range.clone());
        (layer, ranges.collect())
    }

    fn conv(&mut self) -> Conv {
        let (layer, ranges) = self.take();
        let layer = &self.architecture.layers()[layer];
        Conv {
            window: layer.op.window().unwrap_or(Window::POINT),
            c_in: layer.c_in,
            c_out: layer.c_out,
            weight: ranges[0].clone(),
            parameter: layer.parameters.start,
        }
    }

    fn norm(&mut self) -> Norm {
        let (layer, ranges) = self.take();
        let channels = self.architecture.layers()[layer].c_in;
        let start = self.folded;
        self.folded = (start + 2 * channels).next_multiple_of(16);
        Norm {
            layer,
            channels,
            gamma: ranges[0].clone(),
            beta: ranges[1].clone(),
            running_mean: ranges[2].clone(),
            running_var: ranges[3].clone(),
            parameter: self.architecture.layers()[layer].parameters.start,
            folded: start..start + 2 * channels,
        }
    }

    fn linear(&mut self) -> Linear {
        let (layer, ranges) = self.take();
        let layer = &self.architecture.layers()[layer];
        Linear {
            c_in: layer.c_in,
            c_out: layer.c_out,
            weight: ranges[0].clone(),
            bias: ranges[1].clone(),
            parameter: layer.parameters.start,
        }
    }

    fn stem(&mut self) -> Stem {
        let conv = self.conv();
        let stem = self.architecture.config().stem;
        let norm = stem.norm.then(|| {
            let norm = self.norm();
            self.skip();
            norm
        });
        let pool = match self.peek() {
            Some(Op::MaxPool(window)) => Some(*window),
            _ => None,
        };
        if pool.is_some() {
            self.skip();
        }
        Stem { conv, norm, pool }
    }

    fn dense_layer(&mut self, bottleneck: bool) -> DenseLayer {
        let index = self.next;
        let norm1 = self.norm();
        self.skip();
        let conv1 = self.conv();
        let bottleneck = bottleneck.then(|| {
            let norm2 = self.norm();
            self.skip();
            (norm2, self.conv())
        });
        if self.peek() == Some(&Op::Dropout) {
            self.skip();
        }
        self.skip();
        DenseLayer {
            index,
            layers: index..self.next,
            c_in: norm1.channels,
            norm1,
            conv1,
            bottleneck,
        }
    }

    fn transition(&mut self, stage: usize) -> Transition {
        let norm = self.norm();
        self.skip();
        let conv = self.conv();
        let pool = self.peek().and_then(Op::window).unwrap_or(Window::POINT);
        self.skip();
        Transition {
            stage,
            norm,
            conv,
            pool,
        }
    }
}
