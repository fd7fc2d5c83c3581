//! Where a backward pass puts the gradients: all of them side by side, or one layer's at a time.

use std::ops::{ControlFlow, Range};

use densenet_kernels::Buffer;

use crate::plan::{DenseLayer, Plan, Stem, Transition};

/// The whole gradient of one part of the network (the stem, a dense layer, a transition, the final norm, a piece of the
/// classifier), with the parameters that it belongs to. Nothing of this backward pass reads those any more.
#[derive(Debug)]
pub struct Part<'a> {
    /// Where the part lies in [`super::Network::parameters`].
    pub range: Range<usize>,
    /// Its parameters.
    pub parameters: &'a mut [f32],
    /// Their gradients, in the same layout.
    pub gradients: &'a [f32],
}

/// What is done with each part's gradient: [`ControlFlow::Break`] ends the backward pass.
pub(super) type Each<'a> = &'a mut (dyn FnMut(Part<'_>) -> ControlFlow<()> + Send);

/// Gradients, added up in place.
pub(super) struct Gradients {
    /// As long as the parameters; takes no memory until it is written.
    whole: Buffer,
    /// Whether `whole` holds anything but zeros.
    written: bool,
    /// Elements of the longest part.
    longest: usize,
    /// As long as that, once it is used.
    room: Buffer,
    /// The part that `room` stands for.
    part: Option<Range<usize>>,
}

impl Gradients {
    pub(super) fn new(plan: &Plan) -> Self {
        Gradients {
            whole: Buffer::zeroed(plan.table.learned),
            written: false,
            longest: plan.longest_part(),
            room: Buffer::default(),
            part: None,
        }
    }

    pub(super) fn whole(&self) -> &[f32] {
        &self.whole
    }

    pub(super) fn whole_mut(&mut self) -> &mut [f32] {
        self.written = true;
        &mut self.whole
    }

    /// Sets the whole gradient to zero.
    pub(super) fn clear(&mut self) {
        if self.written {
            self.whole.fill(0.0);
            self.written = false;
        }
    }

    /// The place of a parameter's gradient.
    pub(super) fn of(&mut self, parameter: &Range<usize>) -> &mut [f32] {
        match &self.part {
            Some(part) => {
                let start = part.start;
                &mut self.room[parameter.start - start..parameter.end - start]
            }
            None => {
                self.written = true;
                &mut self.whole[parameter.clone()]
            }
        }
    }

    /// Makes room for one part's gradient, set to zero.
    pub(super) fn open(&mut self, part: Range<usize>) {
        if self.room.len() < self.longest {
            self.room = Buffer::zeroed(self.longest);
        }
        self.room[..part.len()].fill(0.0);
        self.part = Some(part);
    }

    /// The part, and the end of it.
    pub(super) fn close<'a>(&'a mut self, parameters: &'a mut [f32]) -> Option<Part<'a>> {
        let range = self.part.take()?;
        Some(Part {
            parameters: &mut parameters[range.clone()],
            gradients: &self.room[..range.len()],
            range,
        })
    }
}

/// A part of the network.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Stem,
    /// Block and layer.
    Layer(usize, usize),
    /// After this block.
    Transition(usize),
    FinalNorm,
    /// A piece of it, the last one with the bias.
    Classifier(usize),
}

impl Plan {
    /// Where a part's parameters lie, unless all of it is frozen.
    pub(super) fn part(&self, place: Place, frozen: &[bool]) -> Option<Range<usize>> {
        let (range, trained) = match place {
            Place::Stem => (self.stem.part(), !frozen[0]),
            Place::Layer(block, layer) => {
                let block = &self.blocks[block];
                (block.layers[layer].part(), !frozen[block.stage])
            }
            Place::Transition(index) => {
                let transition = &self.transitions[index];
                (transition.part(), !frozen[transition.stage])
            }
            Place::FinalNorm => {
                let norm = self.final_norm.as_ref()?;
                let stage = self.architecture.layers()[norm.layer].stage;
                (norm.gamma.start..norm.beta.end, !frozen[stage])
            }
            Place::Classifier(index) => {
                let mut pieces = self.classifier.pieces();
                let last = index + 1 == pieces.len();
                let weight = pieces.nth(index)?.conv.weight;
                let end = if last {
                    self.classifier.bias.end
                } else {
                    weight.end
                };
                (weight.start..end, frozen.last() == Some(&false))
            }
        };
        trained.then_some(range)
    }

    /// Elements of the longest part.
    pub(crate) fn longest_part(&self) -> usize {
        let layers = (0..self.blocks.len())
            .flat_map(|b| (0..self.blocks[b].layers.len()).map(move |l| Place::Layer(b, l)));
        let transitions = (0..self.transitions.len()).map(Place::Transition);
        let pieces = (0..self.classifier.pieces().len()).map(Place::Classifier);
        let places = layers.chain(transitions).chain(pieces);
        let places = places.chain([Place::Stem, Place::FinalNorm]);
        let trained = vec![false; self.architecture.stages().len()];
        let lengths = places.filter_map(|place| self.part(place, &trained));
        lengths.map(|part| part.len()).max().unwrap_or(0)
    }
}

impl Stem {
    fn part(&self) -> Range<usize> {
        let norm = self.norm.as_ref();
        self.conv.weight.start..norm.map_or(self.conv.weight.end, |norm| norm.beta.end)
    }
}

impl DenseLayer {
    fn part(&self) -> Range<usize> {
        self.norm1.gamma.start..self.last().weight.end
    }
}

impl Transition {
    fn part(&self) -> Range<usize> {
        self.norm.gamma.start..self.conv.weight.end
    }
}
