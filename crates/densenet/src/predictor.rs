//! A network compiled for inference.

mod taps;
mod workspace;

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use densenet_kernels::{
    Buffer, Isa, KernelError, Operand, Panels, Raster,
    conv::{Conv as Convolution, Source, Store},
    norm::{self, Affine},
    pool, together,
    winograd::{Stem, StemWeights, Winograd, WinogradWeights},
};
use densenet_spec::{Architecture, DenseNetConfig, StageKind, Trace, Window};
use densenet_weights::StateDict;
use rayon::prelude::*;

use crate::{
    Input, NetworkError,
    plan::{Block, Conv, Norm, Plan},
};
use taps::Taps;
pub(crate) use workspace::Sizes;
use workspace::Workspace;

/// An inference plan: folded norms, packed weights, memory that is reused from run to run.
///
/// `run` may be called from several threads at a time.
pub struct Predictor {
    isa: Isa,
    plan: Plan,
    /// `scale` and `shift` of every norm, at [`Norm::folded`].
    folded: Buffer,
    stem: StemPanels,
    blocks: Vec<Vec<LayerPanels>>,
    transitions: Vec<Panels>,
    classifier: Panels,
    /// The classifier's bias as an affine store: ones and the bias.
    ones: Vec<f32>,
    bias: Vec<f32>,
    /// Memory of runs that are over.
    idle: Mutex<Vec<Workspace>>,
}

struct LayerPanels {
    conv1: Panels,
    conv2: Option<Panels>,
    /// The last convolution's kernel transformed for tiles of 2 and of 4, from the first run on whose maps ask for it.
    winograd: [OnceLock<WinogradWeights>; 2],
}

impl LayerPanels {
    /// Transforms the layer's last kernel for maps of this size, where tiles pay and it is not done yet.
    ///
    /// The size of a sample's map decides, never the batch, so that a sample's result does not depend on its batch.
    fn transform(&self, conv: &Conv, spatial: [usize; 3]) -> Result<(), KernelError> {
        if let Some(tiles) = WinogradWeights::choose(&conv.window, spatial)
            && self.winograd[tiles as usize].get().is_none()
        {
            let panels = self.conv2.as_ref().unwrap_or(&self.conv1);
            let (weight, sizes) = (panels.unpacked(), [conv.c_in, conv.c_out]);
            let window = (&conv.window, tiles);
            let weights = WinogradWeights::packed(panels.isa(), &weight, window, sizes)?;
            self.winograd[tiles as usize].get_or_init(|| weights);
        }
        Ok(())
    }

    /// The transformed kernel, where tiles pay for maps of this size.
    fn winograd(&self, conv: &Conv, spatial: [usize; 3]) -> Option<&WinogradWeights> {
        let tiles = WinogradWeights::choose(&conv.window, spatial)?;
        self.winograd[tiles as usize].get()
    }
}

/// The stem's kernel.
struct StemPanels {
    direct: Panels,
    /// Transformed, from the first run on whose maps ask for it.
    tiles: OnceLock<StemWeights>,
}

impl StemPanels {
    fn transform(&self, conv: &Conv, spatial: [usize; 3]) -> Result<(), KernelError> {
        if StemWeights::pays(&conv.window, spatial) && self.tiles.get().is_none() {
            let (isa, weight) = (self.direct.isa(), self.direct.unpacked());
            let sizes = [conv.c_in, conv.c_out];
            let weights = StemWeights::packed(isa, &weight, &conv.window, sizes)?;
            self.tiles.get_or_init(|| weights);
        }
        Ok(())
    }

    fn tiles(&self, conv: &Conv, spatial: [usize; 3]) -> Option<&StemWeights> {
        let pays = StemWeights::pays(&conv.window, spatial);
        self.tiles.get().filter(|_| pays)
    }
}

/// A named activation, channels-last.
#[derive(Debug, Clone, PartialEq)]
pub struct Feature {
    /// The name it was asked for by.
    pub name: String,
    /// `[batch, depth, height, width, channels]`; after the global pooling `[batch, 1, 1, 1, channels]`.
    pub shape: [usize; 5],
    /// The values in that order.
    pub data: Vec<f32>,
}

/// Logits and the activations that were asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `[batch, num_classes]`
    pub logits: Vec<f32>,
    /// In the order in which they were asked for.
    pub taps: Vec<Feature>,
}

/// How long a stage of a run took.
#[derive(Debug, Clone, PartialEq)]
pub struct StageTime {
    /// The stage's name.
    pub name: String,
    /// Wall time.
    pub time: Duration,
}

impl Predictor {
    /// Compiles the network `config` with the weights `state` for this machine's best instruction set.
    ///
    /// # Errors
    /// The configuration cannot work, a tensor is missing or misshaped, or `DENSENET_ISA` is wrong.
    pub fn new(config: &DenseNetConfig, state: &StateDict) -> Result<Self, NetworkError> {
        let isa = Isa::active().map_err(NetworkError::Isa)?;
        Self::with_isa(config, state, isa)
    }

    /// [`Predictor::new`] for a given instruction set.
    ///
    /// # Errors
    /// As [`Predictor::new`].
    pub fn with_isa(
        config: &DenseNetConfig,
        state: &StateDict,
        isa: Isa,
    ) -> Result<Self, NetworkError> {
        let plan = Plan::new(config)?;
        // One tensor at a time, so that the weights are never there a third time.
        let entries = &plan.table.entries;
        let mut folded = Buffer::zeroed(plan.folded);
        for norm in plan.norms() {
            norm.fold_state(&plan, state, &mut folded)?;
        }
        let pack = |conv: &Conv| -> Result<Panels, NetworkError> {
            let weight = entries[conv.parameter].loaded(state)?;
            Ok(Panels::packed(
                isa,
                &weight,
                conv.sizes(),
                Operand::Forward,
            )?)
        };
        let linear = &plan.classifier;
        let sizes = [1, linear.c_in, linear.c_out];
        let weight = entries[linear.parameter].loaded(state)?;
        let classifier = Panels::packed(isa, &weight, sizes, Operand::Forward)?;
        let block = |block: &Block| {
            let layers = block.layers.iter().map(|layer| {
                Ok(LayerPanels {
                    conv1: pack(&layer.conv1)?,
                    conv2: layer
                        .bottleneck
                        .as_ref()
                        .map(|(_, c)| pack(c))
                        .transpose()?,
                    winograd: [OnceLock::new(), OnceLock::new()],
                })
            });
            layers.collect::<Result<Vec<_>, NetworkError>>()
        };
        let transitions = plan.transitions.iter().map(|t| pack(&t.conv));
        Ok(Predictor {
            isa,
            folded,
            stem: StemPanels {
                direct: pack(&plan.stem.conv)?,
                tiles: OnceLock::new(),
            },
            blocks: plan.blocks.iter().map(block).collect::<Result<_, _>>()?,
            transitions: transitions.collect::<Result<_, _>>()?,
            classifier,
            ones: vec![1.0; linear.c_out],
            bias: entries[linear.parameter + 1].loaded(state)?,
            idle: Mutex::new(Vec::new()),
            plan,
        })
    }

    /// The network's architecture.
    pub fn architecture(&self) -> &Architecture {
        &self.plan.architecture
    }

    /// The instruction set it was compiled for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The logits, `[batch, num_classes]`.
    ///
    /// # Errors
    /// The input is too small for the network or its length does not fit its shape.
    pub fn run(&self, input: Input<'_>) -> Result<Vec<f32>, NetworkError> {
        self.execute(input, &mut Taps::none(), &mut |_, _| {})
    }

    /// The logits and the outputs of the layers or stages named in `taps`; [`Architecture::resolve`] says which names
    /// there are.
    ///
    /// # Errors
    /// As [`Predictor::run`], and for names that do not exist.
    pub fn run_with_taps(&self, input: Input<'_>, taps: &[&str]) -> Result<Output, NetworkError> {
        let mut taps = Taps::new(&self.plan.architecture, taps)?;
        let logits = self.execute(input, &mut taps, &mut |_, _| {})?;
        Ok(Output {
            logits,
            taps: taps.finish(),
        })
    }

    /// The pyramid for use as a backbone: the outputs of the stem, every dense block, and the final norm with its ReLU
    /// (where the network has one), from the finest to the coarsest.
    ///
    /// # Errors
    /// As [`Predictor::run`].
    pub fn features(&self, input: Input<'_>) -> Result<Vec<Feature>, NetworkError> {
        let names: Vec<&str> = self
            .plan
            .architecture
            .stages()
            .iter()
            .filter_map(|s| match s.kind {
                StageKind::Stem | StageKind::DenseBlock(_) => Some(s.name.as_str()),
                StageKind::FinalNorm => Some("relu5"),
                _ => None,
            })
            .collect();
        Ok(self.run_with_taps(input, &names)?.taps)
    }

    /// [`Predictor::run`] with the wall time of each stage.
    ///
    /// # Errors
    /// As [`Predictor::run`].
    pub fn run_timed(&self, input: Input<'_>) -> Result<(Vec<f32>, Vec<StageTime>), NetworkError> {
        let mut times = Vec::new();
        let logits = self.execute(input, &mut Taps::none(), &mut |stage, time| {
            let name = self.plan.architecture.stages()[stage].name.clone();
            times.push(StageTime { name, time });
        })?;
        Ok((logits, times))
    }

    fn execute(
        &self,
        input: Input<'_>,
        taps: &mut Taps,
        finished: &mut (dyn FnMut(usize, Duration) + Send),
    ) -> Result<Vec<f32>, NetworkError> {
        let trace = input.trace(&self.plan)?;
        if input.batch == 0 {
            return Ok(Vec::new());
        }
        self.transform_kernels(&trace)?;
        let sizes = Sizes::new(&self.plan, &trace, input.batch);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut work = idle.pop().unwrap_or_default();
        drop(idle);
        work.reserve(&sizes);
        let mut run = Run {
            predictor: self,
            batch: input.batch,
            trace: &trace,
            work: &mut work,
            taps,
        };
        let result = together(|| run.all(input, finished));
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(work);
        result
    }

    /// Transforms the kernels that a run of this size computes by tiles; nothing is left to do after the first.
    fn transform_kernels(&self, trace: &Trace) -> Result<(), NetworkError> {
        let stem = &self.plan.stem.conv;
        self.stem.transform(stem, trace.layers[0].spatial)?;
        let blocks = self.plan.blocks.iter().zip(&self.blocks);
        let layers = blocks.flat_map(|(block, panels)| block.layers.iter().zip(panels));
        let layers: Vec<_> = layers.collect();
        layers.into_par_iter().try_for_each(|(layer, panels)| {
            panels.transform(layer.last(), trace.layers[layer.index].spatial)
        })?;
        Ok(())
    }

    fn affine(&self, norm: &Norm) -> Affine<'_> {
        norm.affine(&self.folded)
    }
}

/// One pass through the network.
struct Run<'a> {
    predictor: &'a Predictor,
    batch: usize,
    trace: &'a Trace,
    work: &'a mut Workspace,
    taps: &'a mut Taps,
}

impl Run<'_> {
    fn all(
        &mut self,
        input: Input<'_>,
        finished: &mut (dyn FnMut(usize, Duration) + Send),
    ) -> Result<Vec<f32>, NetworkError> {
        let plan = &self.predictor.plan;
        let mut timed = |stage: usize, start: Instant| finished(stage, start.elapsed());
        let start = Instant::now();
        let mut spatial = self.stem(input)?;
        timed(0, start);
        for (index, block) in plan.blocks.iter().enumerate() {
            let start = Instant::now();
            let raster = Raster::dense(self.batch, spatial, block.c_out);
            self.dense_block(index, &raster)?;
            timed(block.stage, start);
            if index < plan.transitions.len() {
                let start = Instant::now();
                spatial = self.transition(index, &raster)?;
                timed(plan.transitions[index].stage, start);
            }
        }
        let start = Instant::now();
        let logits = self.head(spatial)?;
        timed(plan.architecture.stages().len() - 1, start);
        Ok(logits)
    }

    /// The stem, into the first channels of the first block's buffer. Returns the map's size.
    fn stem(&mut self, input: Input<'_>) -> Result<[usize; 3], NetworkError> {
        let Predictor { isa, plan, .. } = self.predictor;
        let (stem, work) = (&plan.stem, &mut *self.work);
        let conv = &stem.conv;
        let image = Raster::dense(self.batch, input.spatial, conv.c_in);
        let padded = image.with_halo(conv.window.padding);
        norm::clear_halo(&mut work.image, &padded)?;
        norm::copy(conv.c_in, (input.data, &image), (&mut work.image, &padded))?;
        let size = self.trace.layers[0].spatial;
        let map = Raster::dense(self.batch, size, conv.c_out);
        let block = Raster::dense(self.batch, size, plan.blocks[0].c_out);
        let convolution = Convolution {
            window: conv.window,
            c_in: conv.c_in,
            source: Source::Map(&work.image, padded),
            weights: &self.predictor.stem.direct,
        };
        let store = || match &stem.norm {
            Some(norm) => Store::Affine {
                affine: self.predictor.affine(norm),
                relu: true,
            },
            None => Store::Overwrite,
        };
        self.taps.conv(
            &convolution,
            &map,
            0,
            stem.norm.as_ref().map(|n| self.predictor.affine(n)),
        )?;
        let tiles = self.predictor.stem.tiles(conv, size).map(|weights| Stem {
            source: (&work.image, padded),
            weights,
            norm_relu: stem.norm.as_ref().map(|n| self.predictor.affine(n)),
        });
        let run = |output: &mut [f32], raster: &Raster| match &tiles {
            Some(tiles) => tiles.run(output, raster),
            None => convolution.run(output, raster, store()),
        };
        let Some(window) = stem.pool else {
            run(&mut work.block, &block)?;
            self.taps.record_stem_end(plan, &work.block, &block);
            return Ok(size);
        };
        run(&mut work.map, &map)?;
        let pooled = window.output(size).unwrap_or(size);
        let block = Raster::dense(self.batch, pooled, plan.blocks[0].c_out);
        let source = (&work.map[..], &map, None);
        pool::max_pool(
            *isa,
            &window,
            source,
            (&mut work.block, &block),
            conv.c_out,
            &mut [],
        )?;
        self.taps.record_stem_end(plan, &work.block, &block);
        Ok(pooled)
    }

    /// A dense block: every layer reads the channels so far and writes its own right behind them.
    fn dense_block(&mut self, index: usize, raster: &Raster) -> Result<(), NetworkError> {
        let Predictor {
            isa, plan, blocks, ..
        } = self.predictor;
        let work = &mut *self.work;
        for (layer, panels) in plan.blocks[index].layers.iter().zip(&blocks[index]) {
            let affine = self.predictor.affine(&layer.norm1);
            let last = layer.last();
            let tiles = panels.winograd(last, raster.spatial);
            let mut inner = Raster::dense(self.batch, raster.spatial, last.c_in);
            if tiles.is_none() {
                inner = inner.with_halo(last.window.padding);
                norm::clear_halo(&mut work.bottleneck, &inner)?;
            }
            let weights = match (&layer.bottleneck, &panels.conv2) {
                (Some((norm2, _)), Some(weights)) => {
                    let convolution = Convolution {
                        window: layer.conv1.window,
                        c_in: layer.c_in,
                        source: Source::NormRelu(&work.block, *raster, affine),
                        weights: &panels.conv1,
                    };
                    let affine = self.predictor.affine(norm2);
                    let store = Store::Affine { affine, relu: true };
                    let dense = Raster {
                        halo: [0; 3],
                        ..inner
                    };
                    self.taps
                        .conv(&convolution, &dense, layer.index + 2, Some(affine))?;
                    convolution.run(&mut work.bottleneck, &inner, store)?;
                    weights
                }
                _ => {
                    norm::normalise_relu(
                        *isa,
                        (&work.block, raster),
                        affine,
                        (&mut work.bottleneck, &inner),
                    )?;
                    &panels.conv1
                }
            };
            let (source, new) = ((&work.bottleneck[..], inner), raster.at(layer.c_in));
            match tiles {
                Some(weights) => Winograd { source, weights }.run(&mut work.block, &new)?,
                None => {
                    let convolution = Convolution {
                        window: last.window,
                        c_in: last.c_in,
                        source: Source::Map(source.0, source.1),
                        weights,
                    };
                    convolution.run(&mut work.block, &new, Store::Overwrite)?;
                }
            }
            self.taps
                .record_layer(plan, layer, affine, &work.block, raster);
        }
        Ok(())
    }

    /// A transition, pooling before it convolves, into the next block's buffer. Returns the pooled size.
    fn transition(&mut self, index: usize, raster: &Raster) -> Result<[usize; 3], NetworkError> {
        let Predictor {
            isa,
            plan,
            transitions,
            ..
        } = self.predictor;
        let transition = &plan.transitions[index];
        let work = &mut *self.work;
        let affine = self.predictor.affine(&transition.norm);
        let conv = &transition.conv;
        let full = Convolution {
            window: Window::POINT,
            c_in: conv.c_in,
            source: Source::NormRelu(&work.block, *raster, affine),
            weights: &transitions[index],
        };
        self.taps
            .norm(plan, transition.norm.layer, affine, &work.block, raster);
        let unpooled = Raster::dense(self.batch, raster.spatial, conv.c_out);
        self.taps
            .conv(&full, &unpooled, transition.norm.layer + 2, None)?;
        let spatial = transition
            .pool
            .output(raster.spatial)
            .unwrap_or(raster.spatial);
        let pooled = Raster::dense(self.batch, spatial, conv.c_in);
        let source = (&work.block[..], raster, Some(affine));
        pool::average_pool(
            *isa,
            &transition.pool,
            source,
            (&mut work.pooled, &pooled),
            conv.c_in,
        )?;
        let next = Raster::dense(self.batch, spatial, plan.blocks[index + 1].c_out);
        let after = Convolution {
            window: Window::POINT,
            c_in: conv.c_in,
            source: Source::Map(&work.pooled, pooled),
            weights: &transitions[index],
        };
        after.run(&mut work.block, &next, Store::Overwrite)?;
        let end = transition.norm.layer + 3;
        self.taps.record(end, &work.block, &next, conv.c_out, None);
        Ok(spatial)
    }

    /// Final norm, ReLU, global average pooling and the classifier.
    fn head(&mut self, spatial: [usize; 3]) -> Result<Vec<f32>, NetworkError> {
        let Predictor { isa, plan, .. } = self.predictor;
        let work = &mut *self.work;
        let linear = &plan.classifier;
        let raster = Raster::dense(self.batch, spatial, linear.c_in);
        let affine = plan.final_norm.as_ref().map(|n| self.predictor.affine(n));
        if let (Some(norm), Some(affine)) = (&plan.final_norm, affine) {
            self.taps
                .norm(plan, norm.layer, affine, &work.block, &raster);
        }
        let everything = Window {
            kernel: spatial,
            stride: spatial,
            padding: [0; 3],
        };
        let features = Raster::dense(self.batch, [1; 3], linear.c_in);
        let source = (&work.block[..], &raster, affine);
        pool::average_pool(
            *isa,
            &everything,
            source,
            (&mut work.pooled, &features),
            linear.c_in,
        )?;
        let last = plan.architecture.layers().len() - 1;
        let order = crate::parameters::channel_order(&plan.architecture, last - 1);
        self.taps.record(
            last - 1,
            &work.pooled,
            &features,
            linear.c_in,
            order.as_deref(),
        );
        let convolution = Convolution {
            window: Window::POINT,
            c_in: linear.c_in,
            source: Source::Map(&work.pooled, features),
            weights: &self.predictor.classifier,
        };
        let raster = Raster::dense(self.batch, [1; 3], linear.c_out);
        let mut logits = vec![0.0; raster.len()];
        let affine = Affine {
            scale: &self.predictor.ones,
            shift: &self.predictor.bias,
        };
        convolution.run(
            &mut logits,
            &raster,
            Store::Affine {
                affine,
                relu: false,
            },
        )?;
        self.taps.record(last, &logits, &raster, linear.c_out, None);
        Ok(logits)
    }
}
