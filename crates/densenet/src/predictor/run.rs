//! One pass through the network.

use std::ops::Range;
use std::time::{Duration, Instant};

use densenet_kernels::{
    Buffer, Isa, Raster,
    conv::{Conv as Convolution, Paired, Source, Store},
    norm::{self, Affine},
    pool,
    winograd::{Stem, Winograd},
};
use densenet_spec::{Trace, Window};

use super::workspace;
use super::{
    KernelTime, Predictor, Schedule, Taps, Workspace,
    profile::Profile,
    weights::{LayerWeights, Store as Weighing, Way},
};
use crate::{Input, NetworkError, plan::DenseLayer};

/// A pass under way.
pub(super) struct Run<'a> {
    predictor: &'a Predictor,
    trace: &'a Trace,
    work: &'a mut Workspace,
    taps: &'a mut Taps,
    /// Samples that pass at a time at the moment.
    batch: usize,
    /// Time spent in each stage.
    pub times: Vec<Duration>,
    profile: Profile<'a>,
}

/// Where a transition leaves its output.
enum Target {
    /// In the buffer that the next block of the segment goes on with.
    Block,
    /// Among the whole batch's, from this sample on.
    Carry(usize),
}

impl<'a> Run<'a> {
    pub(super) fn new(
        predictor: &'a Predictor,
        trace: &'a Trace,
        work: &'a mut Workspace,
        taps: &'a mut Taps,
        kernels: Option<&'a mut Vec<KernelTime>>,
    ) -> Self {
        let stages = predictor.plan.architecture.stages().len();
        Run {
            predictor,
            trace,
            work,
            taps,
            batch: 0,
            times: vec![Duration::ZERO; stages],
            profile: Profile {
                kernels,
                architecture: &predictor.plan.architecture,
                trace,
                stage: 0,
                batch: 0,
            },
        }
    }

    /// The logits of the whole batch.
    pub(super) fn all(
        &mut self,
        input: Input<'_>,
        schedule: &Schedule,
    ) -> Result<Vec<f32>, NetworkError> {
        let plan = &self.predictor.plan;
        let blocks = plan.blocks.len();
        let mut logits = Vec::with_capacity(input.batch * plan.classifier.c_out);
        for segment in &schedule.segments {
            for first in (0..input.batch).step_by(segment.group) {
                let samples = first..(first + segment.group).min(input.batch);
                self.batch = samples.len();
                if segment.blocks.start == 0 {
                    let each = input.data.len() / input.batch;
                    let group = Input {
                        data: &input.data[samples.start * each..samples.end * each],
                        batch: samples.len(),
                        ..input
                    };
                    self.stage(0, |run| run.stem(group))?;
                    if matches!(self.predictor.weights, Weighing::Once(_)) {
                        // There is no next run that would need it.
                        self.work.map = Buffer::default();
                    }
                } else {
                    self.pick_up(segment.blocks.start, &samples)?;
                }
                for index in segment.blocks.clone() {
                    let block = &plan.blocks[index];
                    let spatial = self.trace.layers[block.layers[0].index].spatial;
                    let raster = Raster::spread(self.batch, spatial, block.c_out);
                    self.stage(block.stage, |run| run.dense_block(index, &raster))?;
                    if index < plan.transitions.len() {
                        let target = match index + 1 == segment.blocks.end {
                            true => Target::Carry(first),
                            false => Target::Block,
                        };
                        let stage = plan.transitions[index].stage;
                        self.stage(stage, |run| run.transition(index, &raster, target))?;
                    }
                }
                if segment.blocks.end == blocks {
                    let spatial =
                        self.trace.layers[plan.blocks[blocks - 1].layers[0].index].spatial;
                    let last = self.times.len() - 1;
                    logits.extend(self.stage(last, |run| run.head(spatial))?);
                }
            }
            self.work.carry.swap(0, 1);
        }
        Ok(logits)
    }

    /// Runs a stage and adds its time.
    fn stage<R>(&mut self, stage: usize, work: impl FnOnce(&mut Self) -> R) -> R {
        let start = Instant::now();
        self.profile.stage = stage;
        self.profile.batch = self.batch;
        let result = work(self);
        self.times[stage] += start.elapsed();
        result
    }

    /// A group's input of block `index`, out of what the segment before left.
    fn pick_up(&mut self, index: usize, samples: &Range<usize>) -> Result<(), NetworkError> {
        let block = &self.predictor.plan.blocks[index];
        let spatial = self.trace.layers[block.layers[0].index].spatial;
        let from = Raster::dense(self.batch, spatial, block.c_in);
        let to = Raster::spread(self.batch, spatial, block.c_out);
        let carried = &self.work.carry[0][samples.start * from.sample_pitch()..];
        let target = (&mut self.work.block[..], &to);
        norm::copy(block.c_in, (carried, &from), target)?;
        Ok(())
    }

    /// The stem, into the first channels of the first block's buffer.
    fn stem(&mut self, input: Input<'_>) -> Result<(), NetworkError> {
        let plan = &self.predictor.plan;
        let (stem, conv) = (&plan.stem, &plan.stem.conv);
        let size = self.trace.layers[0].spatial;
        let packed = &self.predictor.weights;
        let packed = packed.stem(&self.predictor.packer(), size)?;
        let image = Raster::dense(self.batch, input.spatial, conv.c_in);
        let norm = stem.norm.as_ref().map(|n| self.predictor.affine(n));
        let pooled = stem.pool.and_then(|window| window.output(size).ok());
        let spatial = pooled.unwrap_or(size);
        let block = Raster::spread(self.batch, spatial, plan.blocks[0].c_out);
        let map = Raster::dense(self.batch, size, conv.c_out);
        let tiles = packed.tiles(conv, size).map(|weights| Stem {
            input: image,
            weights,
            norm_relu: norm,
        });
        if let Some(tiles) = &tiles
            && self.taps.is_empty()
        {
            return self.stem_by_planes(tiles, input.data, &map, &block);
        }
        let padded = image.with_halo(conv.window.padding);
        let work = &mut *self.work;
        let pairs = packed.pairs.as_ref();
        let pairs = pairs.filter(|_| Paired::holds(&conv.window, &image));
        let needed = match pairs {
            Some(_) => Paired::prepared(&conv.window, &image),
            None => padded.len(),
        };
        if work.inner.len() < needed {
            work.inner = Buffer::zeroed(needed);
        }
        let convolution = match pairs {
            Some(pairs) => {
                pairs.prepare((input.data, &image), &mut work.inner)?;
                pairs.conv(&work.inner, &image)
            }
            None => {
                norm::clear_halo(&mut work.inner, &padded)?;
                norm::copy(conv.c_in, (input.data, &image), (&mut work.inner, &padded))?;
                Convolution {
                    window: conv.window,
                    c_in: conv.c_in,
                    source: Source::Map(&work.inner, padded),
                    weights: &packed.direct,
                }
            }
        };
        self.taps.conv(&convolution, &map, 0, norm)?;
        if let Some(tiles) = &tiles {
            self.stem_by_planes(tiles, input.data, &map, &block)?;
            self.taps.record_stem_end(plan, &self.work.block, &block);
            return Ok(());
        }
        let store = match norm {
            Some(affine) => Store::Affine { affine, relu: true },
            None => Store::Overwrite,
        };
        let started = self.profile.start(|| convolution.id(&store));
        match stem.pool {
            None => {
                convolution.run(&mut work.block, &block, store)?;
                self.profile.end(started, 0);
            }
            Some(window) => {
                convolution.run(&mut work.map, &map, store)?;
                self.profile.end(started, 0);
                let isa = self.predictor.options.isa;
                let started = self.profile.start(|| max_pool_id(isa));
                let source = (&work.map[..], &map, None);
                let target = (&mut work.block[..], &block);
                pool::max_pool(isa, &window, source, target, conv.c_out, &mut [])?;
                self.profile
                    .end(started, plan.blocks[0].layers[0].index - 1);
            }
        }
        self.taps.record_stem_end(plan, &work.block, &block);
        Ok(())
    }

    /// The stem by tiles, pooled as soon as the planes are there, so that few of a volume's stay.
    fn stem_by_planes(
        &mut self,
        tiles: &Stem<'_>,
        image: &[f32],
        map: &Raster,
        block: &Raster,
    ) -> Result<(), NetworkError> {
        let plan = &self.predictor.plan;
        let isa = self.predictor.options.isa;
        let work = &mut *self.work;
        let started = self.profile.start(|| tiles.id());
        tiles.prepare(image, &mut work.inner)?;
        let depth = map.spatial[0];
        let Some(window) = plan.stem.pool else {
            tiles.run(&work.inner, 0..depth, (&mut work.block, block))?;
            self.profile.end(started, 0);
            return Ok(());
        };
        self.profile.end(started, 0);
        let step = workspace::stem_planes(map);
        let planes = |count: usize| Raster {
            spatial: [count, map.spatial[1], map.spatial[2]],
            ..*map
        };
        let (mut held, mut done) = (0..0, 0);
        while done < block.spatial[0] && held.end < depth {
            // Planes that the next outputs still need move to the front.
            let needed = (done * window.stride[0]).saturating_sub(window.padding[0]);
            let keep = needed.clamp(held.start, held.end);
            let plane = map.plane_pitch();
            let moved = (keep - held.start) * plane..(held.end - held.start) * plane;
            work.map.copy_within(moved, 0);
            let new = held.end..(held.end + step).min(depth);
            held = keep..new.end;
            let started = self.profile.start(|| tiles.id());
            let target = &mut work.map[(new.start - keep) * plane..];
            tiles.run(&work.inner, new.clone(), (target, &planes(new.len())))?;
            self.profile.end_part(started, 0, (new.len(), depth));
            let last_of = |z: usize| {
                let end = z * window.stride[0] + window.kernel[0];
                end.saturating_sub(1 + window.padding[0]).min(depth - 1)
            };
            let ready = (done..block.spatial[0]).find(|z| last_of(*z) >= held.end);
            let ready = done..ready.unwrap_or(block.spatial[0]);
            let started = self.profile.start(|| max_pool_id(isa));
            let there = pool::Planes {
                data: &work.map,
                raster: planes(held.len()),
                first: keep,
                depth,
            };
            let target = (&mut work.block[..], block);
            pool::max_pool_planes(isa, &window, there, target, ready.clone(), map.stride)?;
            self.profile
                .end(started, plan.blocks[0].layers[0].index - 1);
            done = ready.end;
        }
        Ok(())
    }

    /// A dense block: every layer reads the channels so far and writes its own right behind them.
    fn dense_block(&mut self, index: usize, raster: &Raster) -> Result<(), NetworkError> {
        let plan = &self.predictor.plan;
        let packer = self.predictor.packer();
        for (i, layer) in plan.blocks[index].layers.iter().enumerate() {
            let weights = &self.predictor.weights;
            let weights = weights.layer(&packer, [index, i], raster.spatial)?;
            self.dense_layer(layer, &weights, raster)?;
            let affine = self.predictor.affine(&layer.norm1);
            let block = &self.work.block;
            self.taps.record_layer(plan, layer, affine, block, raster);
        }
        Ok(())
    }

    fn dense_layer(
        &mut self,
        layer: &DenseLayer,
        weights: &LayerWeights,
        raster: &Raster,
    ) -> Result<(), NetworkError> {
        let isa = self.predictor.options.isa;
        let work = &mut *self.work;
        let last = layer.last();
        let way = weights.last.way(last, raster.spatial)?;
        // The bottleneck's raster, in pairs of bf16 where the convolution reads bf16; tiles need no border.
        let pairs = weights.last.in_bf16;
        let channels = if pairs { last.c_in / 2 } else { last.c_in };
        let inner = if matches!(way, Way::Tiles(_)) {
            Raster::spread(self.batch, raster.spatial, channels)
        } else {
            let inner = Raster::dense(self.batch, raster.spatial, channels);
            let inner = inner.with_halo(last.window.padding);
            norm::clear_halo(&mut work.inner, &inner)?;
            inner
        };
        let affine = self.predictor.affine(&layer.norm1);
        match (&layer.bottleneck, &weights.conv1) {
            (Some((norm2, _)), Some(conv1)) => {
                let mut convolution = Convolution {
                    window: layer.conv1.window,
                    c_in: layer.c_in,
                    source: Source::NormRelu(&work.block, *raster, affine),
                    weights: &conv1.panels,
                };
                let scale = affine.scale;
                let mut affine = self.predictor.affine(norm2);
                let dense = Raster::dense(self.batch, raster.spatial, last.c_in);
                self.taps
                    .conv(&convolution, &dense, layer.index + 2, Some(affine))?;
                if let Some(centring) = &conv1.centring {
                    let centred = centring.centred(scale);
                    convolution.source = Source::Centred(&work.block, *raster, centred);
                    affine.shift = &centring.after;
                }
                let store = match pairs {
                    true => Store::AffineBf16(affine),
                    false => Store::Affine { affine, relu: true },
                };
                let started = self.profile.start(|| convolution.id(&store));
                convolution.run(&mut work.inner, &inner, store)?;
                self.profile.end(started, layer.index + 2);
            }
            _ => norm::normalise_relu(
                isa,
                (&work.block, raster),
                affine,
                (&mut work.inner, &inner),
            )?,
        }
        let new = raster.at(layer.c_in);
        // The convolution that makes the new features, behind norm, ReLU and, where it is, the bottleneck.
        let made_by = layer.index + if layer.bottleneck.is_some() { 5 } else { 2 };
        let bottleneck = &work.inner[..];
        let source = match pairs {
            true => Source::Bf16(bottleneck, inner),
            false => Source::Map(bottleneck, inner),
        };
        let panels = match way {
            Way::Tiles(weights) => {
                let convolution = Winograd {
                    source: (bottleneck, inner),
                    bf16: pairs,
                    weights: &weights,
                };
                let started = self.profile.start(|| convolution.id());
                convolution.run(&mut work.block, &new)?;
                self.profile.end(started, made_by);
                return Ok(());
            }
            Way::Direct(panels) | Way::DirectBf16(panels) => panels,
        };
        let convolution = Convolution {
            window: last.window,
            c_in: channels,
            source,
            weights: panels,
        };
        let started = self.profile.start(|| convolution.id(&Store::Overwrite));
        convolution.run(&mut work.block, &new, Store::Overwrite)?;
        self.profile.end(started, made_by);
        Ok(())
    }

    /// A transition, pooling before it convolves.
    fn transition(
        &mut self,
        index: usize,
        raster: &Raster,
        target: Target,
    ) -> Result<(), NetworkError> {
        let plan = &self.predictor.plan;
        let isa = self.predictor.options.isa;
        let weights = &self.predictor.weights;
        let weights = weights.transition(&self.predictor.packer(), index)?;
        let transition = &plan.transitions[index];
        let work = &mut *self.work;
        let affine = self.predictor.affine(&transition.norm);
        let conv = &transition.conv;
        let full = Convolution {
            window: Window::POINT,
            c_in: conv.c_in,
            source: Source::NormRelu(&work.block, *raster, affine),
            weights: &weights.panels,
        };
        let layer = transition.norm.layer;
        self.taps.norm(plan, layer, affine, &work.block, raster);
        let unpooled = Raster::dense(self.batch, raster.spatial, conv.c_out);
        self.taps.conv(&full, &unpooled, layer + 2, None)?;
        let spatial = self.trace.layers[layer + 3].spatial;
        let pooled = Raster::dense(self.batch, spatial, conv.c_in);
        let source = (&work.block[..], raster, Some(affine));
        let room = (&mut work.pooled[..], &pooled);
        let started = self
            .profile
            .start(|| format!("average_pool.forward.f32.mean.norm_relu.{}", isa.name()));
        pool::average_pool(isa, &transition.pool, source, room, conv.c_in)?;
        self.profile.end(started, layer + 3);
        let ones = &self.predictor.ones;
        let (source, store) = match &weights.centring {
            None => (Source::Map(&work.pooled, pooled), Store::Overwrite),
            Some(centring) => {
                let centred = centring.centred(&ones[..conv.c_in]);
                let scale = &ones[..conv.c_out];
                let shift = &centring.after;
                let affine = Affine { scale, shift };
                let relu = false;
                (
                    Source::Centred(&work.pooled, pooled, centred),
                    Store::Affine { affine, relu },
                )
            }
        };
        let after = Convolution {
            window: Window::POINT,
            c_in: conv.c_in,
            source,
            weights: &weights.panels,
        };
        let started = self.profile.start(|| after.id(&store));
        match target {
            Target::Block => {
                let next = Raster::spread(self.batch, spatial, plan.blocks[index + 1].c_out);
                after.run(&mut work.block, &next, store)?;
                self.profile.end(started, layer + 2);
                let found = &work.block;
                self.taps.record(layer + 3, found, &next, conv.c_out, None);
            }
            Target::Carry(sample) => {
                let left = Raster::dense(self.batch, spatial, conv.c_out);
                let carry = &mut work.carry[1][sample * left.sample_pitch()..];
                after.run(carry, &left, store)?;
                self.profile.end(started, layer + 2);
            }
        }
        Ok(())
    }

    /// Final norm, ReLU, global average pooling and the classifier.
    fn head(&mut self, spatial: [usize; 3]) -> Result<Vec<f32>, NetworkError> {
        let plan = &self.predictor.plan;
        let isa = self.predictor.options.isa;
        let packed = &self.predictor.weights;
        let packed = packed.classifier(&self.predictor.packer())?;
        let work = &mut *self.work;
        let linear = &plan.classifier;
        let raster = Raster::spread(self.batch, spatial, linear.c_in);
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
        let target = (&mut work.pooled[..], &features);
        let last = plan.architecture.layers().len() - 1;
        let started = self
            .profile
            .start(|| format!("average_pool.forward.f32.global.norm_relu.{}", isa.name()));
        pool::average_pool(isa, &everything, source, target, linear.c_in)?;
        self.profile.end(started, last - 1);
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
            weights: &packed,
        };
        let raster = Raster::dense(self.batch, [1; 3], linear.c_out);
        let mut logits = vec![0.0; raster.len()];
        let affine = Affine {
            scale: &self.predictor.ones[..linear.c_out],
            shift: &self.predictor.bias,
        };
        let store = Store::Affine {
            affine,
            relu: false,
        };
        let started = self.profile.start(|| convolution.id(&store));
        convolution.run(&mut logits, &raster, store)?;
        self.profile.end(started, last);
        self.taps.record(last, &logits, &raster, linear.c_out, None);
        Ok(logits)
    }
}

fn max_pool_id(isa: Isa) -> String {
    format!("max_pool.forward.f32.max.store.{}", isa.name())
}
