//! A network's convolutions, packed for inference.

use std::ops::Deref;
use std::sync::{Mutex, OnceLock, PoisonError};

use densenet_kernels::{
    Isa, KernelError, Operand, Panels,
    conv::Paired,
    norm::Affine,
    winograd::{Factors, StemWeights, Tiles, WinogradWeights},
};
use densenet_spec::Trace;
use densenet_weights::StateDict;
use rayon::prelude::*;

use super::{
    Dtype, PredictorOptions, Weights,
    norms::{Centring, Norms},
};
use crate::{
    NetworkError,
    parameters::Entry,
    plan::{Block, Conv, DenseLayer, Linear, Norm, Plan, Transition},
};

/// Every convolution of a network, ready to run.
pub(super) struct Packed {
    pub stem: StemPanels,
    pub blocks: Vec<Vec<LayerWeights>>,
    pub transitions: Vec<Pointwise>,
    pub classifier: Panels,
}

/// A 1×1 convolution behind a norm and ReLU.
pub(super) struct Pointwise {
    pub panels: Panels,
    /// Where it is computed in bf16.
    pub centring: Option<Centring>,
}

/// A dense layer's convolutions.
pub(super) struct LayerWeights {
    /// The bottleneck, where there is one.
    pub conv1: Option<Pointwise>,
    /// The convolution that makes the new features.
    pub last: SpatialWeights,
}

/// Where the weights come from.
pub(super) enum Store {
    /// Packed for any number of runs.
    Kept(Box<Packed>),
    /// At their source: each is read and packed when a single run needs it, and gone afterwards.
    Once(Mutex<Box<dyn Weights>>),
}

/// A weight that is kept, or one that was made for this moment.
pub(super) enum Held<'a, T> {
    Kept(&'a T),
    Made(T),
}

impl<T> Deref for Held<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        match self {
            Held::Kept(weights) => weights,
            Held::Made(weights) => weights,
        }
    }
}

/// Packs a network's weights.
pub(super) struct Packer<'a> {
    pub plan: &'a Plan,
    pub norms: &'a Norms,
    pub options: PredictorOptions,
}

impl Packer<'_> {
    fn entry(&self, parameter: usize) -> &Entry {
        &self.plan.table.entries[parameter]
    }

    /// All of them.
    pub(super) fn all(&self, state: &StateDict) -> Result<Packed, NetworkError> {
        let read = |parameter: usize| self.entry(parameter).loaded(state);
        let layers = |layers: &Vec<DenseLayer>| {
            let layers = layers.par_iter().map(|layer| self.layer(layer, read));
            layers.collect::<Result<Vec<_>, NetworkError>>()
        };
        let transitions = self.plan.transitions.iter();
        let transitions = transitions.map(|t| self.transition(t, read));
        let blocks = self.plan.blocks.iter().map(|block| layers(&block.layers));
        Ok(Packed {
            stem: self.stem(read)?,
            blocks: blocks.collect::<Result<_, _>>()?,
            transitions: transitions.collect::<Result<_, _>>()?,
            classifier: self.classifier(read)?,
        })
    }

    /// A parameter, taken out of the state dict.
    fn take(
        &self,
        source: &Mutex<Box<dyn Weights>>,
        parameter: usize,
    ) -> Result<Vec<f32>, NetworkError> {
        let mut source = source.lock().unwrap_or_else(PoisonError::into_inner);
        self.entry(parameter).take(&mut **source)
    }

    fn layer(
        &self,
        layer: &DenseLayer,
        read: impl Fn(usize) -> Result<Vec<f32>, NetworkError>,
    ) -> Result<LayerWeights, NetworkError> {
        let conv1 = layer.bottleneck.as_ref().map(|(norm2, _)| {
            // Centred sums, less what they lost, normalised.
            let Affine { scale, shift } = self.norms.affine(norm2);
            self.pointwise(&layer.conv1, (&layer.norm1, false), &read, |o, lost| {
                (f64::from(scale[o]) * lost + f64::from(shift[o])) as f32
            })
        });
        let weight = read(layer.last().parameter)?;
        Ok(LayerWeights {
            conv1: conv1.transpose()?,
            last: SpatialWeights::new(self, layer, &weight)?,
        })
    }

    /// A transition's convolution, behind the pooling.
    fn transition(
        &self,
        transition: &Transition,
        read: impl Fn(usize) -> Result<Vec<f32>, NetworkError>,
    ) -> Result<Pointwise, NetworkError> {
        let norm = (&transition.norm, true);
        self.pointwise(&transition.conv, norm, read, |_, lost| lost as f32)
    }

    fn stem(
        &self,
        read: impl Fn(usize) -> Result<Vec<f32>, NetworkError>,
    ) -> Result<StemPanels, NetworkError> {
        let conv = &self.plan.stem.conv;
        let PredictorOptions { isa, dtype } = self.options;
        StemPanels::new((isa, dtype), conv, &read(conv.parameter)?)
    }

    /// A 1×1 convolution's weight behind a norm and ReLU: see [`Centring::new`].
    fn pointwise(
        &self,
        conv: &Conv,
        norm: (&Norm, bool),
        read: impl Fn(usize) -> Result<Vec<f32>, NetworkError>,
        after: impl Fn(usize, f64) -> f32,
    ) -> Result<Pointwise, NetworkError> {
        let (isa, weight) = (self.options.isa, read(conv.parameter)?);
        Ok(Pointwise {
            panels: match self.options.dtype {
                Dtype::F32 => Panels::packed(isa, &weight, conv.sizes(), Operand::Forward)?,
                Dtype::Bf16 => Panels::packed_bf16(isa, &weight, conv.sizes())?,
            },
            centring: Centring::new(self.norms, norm, &weight, after),
        })
    }

    fn classifier(
        &self,
        read: impl Fn(usize) -> Result<Vec<f32>, NetworkError>,
    ) -> Result<Panels, NetworkError> {
        let Linear {
            c_in,
            c_out,
            parameter,
            ..
        } = self.plan.classifier;
        let weight = read(parameter)?;
        Ok(Panels::packed(
            self.options.isa,
            &weight,
            [1, c_in, c_out],
            Operand::Forward,
        )?)
    }
}

impl Store {
    /// The stem's weight for outputs of this size.
    pub(super) fn stem(
        &self,
        packer: &Packer<'_>,
        spatial: [usize; 3],
    ) -> Result<Held<'_, StemPanels>, NetworkError> {
        match self {
            Store::Kept(packed) => Ok(Held::Kept(&packed.stem)),
            Store::Once(state) => {
                let stem = packer.stem(|parameter| packer.take(state, parameter))?;
                stem.prepare(&packer.plan.stem.conv, spatial)?;
                Ok(Held::Made(stem))
            }
        }
    }

    /// A dense layer's weights for maps of this size.
    pub(super) fn layer(
        &self,
        packer: &Packer<'_>,
        [block, layer]: [usize; 2],
        spatial: [usize; 3],
    ) -> Result<Held<'_, LayerWeights>, NetworkError> {
        match self {
            Store::Kept(packed) => Ok(Held::Kept(&packed.blocks[block][layer])),
            Store::Once(state) => {
                let layer = &packer.plan.blocks[block].layers[layer];
                let weights = packer.layer(layer, |parameter| packer.take(state, parameter))?;
                weights.last.prepare(layer.last(), spatial, false)?;
                Ok(Held::Made(weights))
            }
        }
    }

    /// A transition's weight.
    pub(super) fn transition(
        &self,
        packer: &Packer<'_>,
        index: usize,
    ) -> Result<Held<'_, Pointwise>, NetworkError> {
        match self {
            Store::Kept(packed) => Ok(Held::Kept(&packed.transitions[index])),
            Store::Once(state) => {
                let transition = &packer.plan.transitions[index];
                let read = |parameter| packer.take(state, parameter);
                Ok(Held::Made(packer.transition(transition, read)?))
            }
        }
    }

    /// The classifier's weight.
    pub(super) fn classifier(&self, packer: &Packer<'_>) -> Result<Held<'_, Panels>, NetworkError> {
        match self {
            Store::Kept(packed) => Ok(Held::Kept(&packed.classifier)),
            Store::Once(state) => {
                let weight = packer.classifier(|parameter| packer.take(state, parameter))?;
                Ok(Held::Made(weight))
            }
        }
    }
}

/// A 3×3 or 3×3×3 convolution's weight, and what it becomes for maps of different sizes.
pub(super) struct SpatialWeights {
    /// As it is computed on the smallest maps.
    pub direct: Panels,
    /// Whether its map holds bf16, in pairs of channels; where it is computed directly, it is computed in bf16.
    pub in_bf16: bool,
    /// Whether it may be computed by wide tiles in bf16.
    wide: bool,
    /// Rounded to bf16, from the first run on whose maps ask for it.
    bf16: OnceLock<Panels>,
    /// Transformed for each kind of tiles, from the first run on whose maps ask for it.
    tiles: [OnceLock<WinogradWeights>; Tiles::ALL.len()],
}

/// How a 3×3 or 3×3×3 convolution is computed.
pub(super) enum Way<'a> {
    Direct(&'a Panels),
    /// On a map of bf16 pairs.
    DirectBf16(&'a Panels),
    Tiles(Held<'a, WinogradWeights>),
}

/// Multiply-adds of a sample for each element of its transformed kernels from which on these are made anew in every run:
/// that takes 2 % of the run's time at most, and kernels of 3×3×3 take 8 times the memory of the weights they are made of.
const MACS_PER_ELEMENT: u64 = 3300;

/// Whether kernels are transformed once for all runs of this size, and the elements they take: all together if they are
/// kept, the largest one's if each is made when its layer comes.
pub(crate) fn transformed(plan: &Plan, trace: &Trace, bf16: bool) -> (bool, usize) {
    let layers = plan.blocks.iter().flat_map(|block| &block.layers);
    let elements = layers.filter_map(|layer| {
        let (conv, spatial) = (layer.last(), trace.layers[layer.index].spatial);
        let bf16 = bf16 && SpatialWeights::takes_bf16(conv, layer.bottleneck.is_some());
        let factors = SpatialWeights::factors(bf16, may_stray(plan, layer));
        let tiles = WinogradWeights::choose(&conv.window, spatial, factors)?;
        let [c_in, c_out] = [conv.c_in, conv.c_out];
        Some(WinogradWeights::elements(&conv.window, tiles, c_in, c_out))
    });
    let all: usize = elements.clone().sum();
    match trace.macs() < all as u64 * MACS_PER_ELEMENT {
        true => (true, all),
        false => (false, elements.max().unwrap_or(0)),
    }
}

/// Dense layers of a network from which on only its first block may be computed by wide tiles: every layer passes on what
/// the ones before it strayed.
const DEEP: usize = 100;

/// Whether a dense layer may be computed by wide tiles in bf16. In volumes, and in an image's first two blocks, where most of
/// the time goes, if they are a small part of the network and it is not deep: docs/numerics.md has the errors.
fn may_stray(plan: &Plan, layer: &DenseLayer) -> bool {
    if plan.architecture.config().spatial_dims == 3 {
        return true;
    }
    let layers = |block: &Block| block.layers.len();
    let all: usize = plan.blocks.iter().map(layers).sum();
    let through = |blocks: usize| plan.blocks.iter().take(blocks).map(layers).sum::<usize>();
    let block = plan
        .blocks
        .iter()
        .rposition(|block| block.layers[0].index <= layer.index);
    match block {
        Some(0) => 3 * through(1) < all,
        Some(1) => 3 * through(2) < all && all < DEEP,
        _ => false,
    }
}

impl SpatialWeights {
    /// Of a dense layer's last convolution.
    fn new(packer: &Packer<'_>, layer: &DenseLayer, weight: &[f32]) -> Result<Self, NetworkError> {
        let PredictorOptions { isa, dtype } = packer.options;
        let conv = layer.last();
        let takes_bf16 = Self::takes_bf16(conv, layer.bottleneck.is_some());
        Ok(SpatialWeights {
            direct: Panels::packed(isa, weight, conv.sizes(), Operand::Forward)?,
            in_bf16: dtype == Dtype::Bf16 && takes_bf16,
            wide: may_stray(packer.plan, layer),
            bf16: OnceLock::new(),
            tiles: Default::default(),
        })
    }

    /// Whether the map of this convolution holds bf16 where the network computes in it.
    fn takes_bf16(conv: &Conv, bottleneck: bool) -> bool {
        bottleneck && conv.c_in.is_multiple_of(2)
    }

    /// Prepares what is kept for maps of this size, where it is not there yet: `tiles` says whether a transformed kernel is.
    ///
    /// The size of a sample's map decides, never the batch, so that a sample's result does not depend on its batch.
    pub(super) fn prepare(
        &self,
        conv: &Conv,
        spatial: [usize; 3],
        tiles: bool,
    ) -> Result<(), KernelError> {
        if let Some(chosen) = self.chosen(conv, spatial) {
            let slot = &self.tiles[chosen as usize];
            if tiles && slot.get().is_none() {
                let weights = self.transformed(conv, chosen)?;
                slot.get_or_init(|| weights);
            }
        } else if self.in_bf16 && self.bf16.get().is_none() {
            let isa = self.direct.isa();
            let panels = Panels::packed_bf16(isa, &self.direct.unpacked(), conv.sizes())?;
            self.bf16.get_or_init(|| panels);
        }
        Ok(())
    }

    /// The tiles for maps of this size; in bf16 only where the processor multiplies it by itself.
    fn chosen(&self, conv: &Conv, spatial: [usize; 3]) -> Option<Tiles> {
        let bf16 = self.in_bf16 && self.direct.isa().has_bf16();
        WinogradWeights::choose(&conv.window, spatial, Self::factors(bf16, self.wide))
    }

    fn factors(bf16: bool, wide: bool) -> Factors {
        match bf16 {
            false => Factors::F32,
            true => Factors::Bf16 { wide },
        }
    }

    fn transformed(&self, conv: &Conv, tiles: Tiles) -> Result<WinogradWeights, KernelError> {
        let (isa, sizes) = (self.direct.isa(), [conv.c_in, conv.c_out]);
        WinogradWeights::packed(isa, &self.direct.unpacked(), (&conv.window, tiles), sizes)
    }

    /// The way for maps of this size, once it is prepared.
    pub(super) fn way(&self, conv: &Conv, spatial: [usize; 3]) -> Result<Way<'_>, KernelError> {
        let tiles = self.chosen(conv, spatial);
        Ok(match (tiles, self.bf16.get()) {
            (Some(tiles), _) => Way::Tiles(match self.tiles[tiles as usize].get() {
                Some(weights) => Held::Kept(weights),
                None => Held::Made(self.transformed(conv, tiles)?),
            }),
            (None, Some(panels)) => Way::DirectBf16(panels),
            (None, None) => Way::Direct(&self.direct),
        })
    }
}

/// The stem's weight.
pub(super) struct StemPanels {
    pub direct: Panels,
    /// In bf16, where the network computes in it and this is the fastest way.
    pub pairs: Option<Paired>,
    /// Transformed, from the first run on whose maps ask for it.
    tiles: OnceLock<StemWeights>,
}

impl StemPanels {
    pub(super) fn new(
        (isa, dtype): (Isa, Dtype),
        conv: &Conv,
        weight: &[f32],
    ) -> Result<Self, NetworkError> {
        let sizes = [conv.c_in, conv.c_out];
        let pairs = (dtype == Dtype::Bf16 && Self::takes_bf16(conv))
            .then(|| Paired::packed(isa, weight, &conv.window, sizes));
        Ok(StemPanels {
            direct: Panels::packed(isa, weight, conv.sizes(), Operand::Forward)?,
            pairs: pairs.transpose()?,
            tiles: OnceLock::new(),
        })
    }

    /// Whether a stem is computed in bf16 where the network is. A volume's is not: tiles need a ninth of the products.
    pub(crate) fn takes_bf16(conv: &Conv) -> bool {
        Paired::fits(&conv.window) && conv.window.kernel[0] == 1
    }

    /// Transforms the kernel, where tiles pay for outputs of this size and it is not done yet.
    pub(super) fn prepare(&self, conv: &Conv, spatial: [usize; 3]) -> Result<(), KernelError> {
        let pays = self.pairs.is_none() && StemWeights::pays(&conv.window, spatial);
        if pays && self.tiles.get().is_none() {
            let (isa, weight) = (self.direct.isa(), self.direct.unpacked());
            let sizes = [conv.c_in, conv.c_out];
            let weights = StemWeights::packed(isa, &weight, &conv.window, sizes)?;
            self.tiles.get_or_init(|| weights);
        }
        Ok(())
    }

    /// The transformed kernel, where tiles pay.
    pub(super) fn tiles(&self, conv: &Conv, spatial: [usize; 3]) -> Option<&StemWeights> {
        let pays = self.pairs.is_none() && StemWeights::pays(&conv.window, spatial);
        self.tiles.get().filter(|_| pays)
    }
}
