//! The backward pass around the dense blocks: classifier and last norm, transitions, stem.

use densenet_kernels::{
    Raster,
    conv::{Source, Store},
    norm,
    pool::{self, MaxPoolBackward, PooledNorm},
    winograd::{StemGradient, StemWeights},
};

use super::{
    super::{LastPass, Network, forward::whole, overlay::Maps},
    Engine,
};
use crate::NetworkError;

impl Network {
    /// Takes the logits' gradient in, and from there to the features', where anything before the classifier needs it.
    pub(super) fn classifier_input_backward(
        &mut self,
        grad_logits: &[f32],
        batch: usize,
        needed: bool,
    ) -> Result<(), NetworkError> {
        let (linear, a) = (&self.plan.classifier, &mut self.activations);
        a.grad_input[..grad_logits.len()].copy_from_slice(grad_logits);
        if !needed {
            return Ok(());
        }
        let logits = Raster::dense(batch, [1; 3], linear.c_out);
        let features = Raster::dense(batch, [1; 3], linear.c_in);
        let mut engine = Engine::new(
            self.isa,
            &mut self.packed,
            &self.parameters,
            &mut a.partials,
        );
        let grad_pooled = a.overlay.maps().grad_pooled;
        for piece in linear.pieces() {
            let target = (&mut *grad_pooled, &features.at(piece.first));
            let source = (&a.grad_input[..], logits);
            engine.input(&piece.conv, source, target, Store::Overwrite)?;
        }
        Ok(())
    }

    /// The gradient of one of the classifier's pieces, and of its bias with the last.
    pub(super) fn classifier_backward(
        &mut self,
        index: usize,
        grad_logits: &[f32],
        batch: usize,
    ) -> Result<(), NetworkError> {
        let Network {
            plan,
            activations: a,
            gradients,
            ..
        } = self;
        let linear = &plan.classifier;
        let mut pieces = linear.pieces();
        let last = index + 1 == pieces.len();
        let Some(piece) = pieces
            .nth(index)
            .filter(|_| self.frozen.last() == Some(&false))
        else {
            return Ok(());
        };
        let logits = Raster::dense(batch, [1; 3], linear.c_out);
        let features = Raster::dense(batch, [1; 3], linear.c_in).at(piece.first);
        let mut engine = Engine::new(
            self.isa,
            &mut self.packed,
            &self.parameters,
            &mut a.partials,
        );
        engine.weight(
            &piece.conv,
            Source::Map(&a.features, features),
            (&a.grad_input, logits),
            gradients,
        )?;
        if last {
            for sample in grad_logits.chunks_exact(linear.c_out) {
                let bias = gradients.of(&linear.bias);
                bias.iter_mut().zip(sample).for_each(|(b, g)| *b += g);
            }
        }
        Ok(())
    }

    /// From the features' gradient to the last block's gradient buffer.
    pub(super) fn final_norm_backward(&mut self, block: &Raster) -> Result<(), NetworkError> {
        let Network {
            plan,
            activations: a,
            gradients,
            frozen,
            shares,
            statistics,
            ..
        } = self;
        let c_in = plan.classifier.c_in;
        let features = Raster::dense(block.batch, [1; 3], c_in);
        let Maps {
            grad_block,
            grad_pooled,
            ..
        } = a.overlay.maps();
        let last = plan.blocks.len() - 1;
        let map = &statistics.blocks[last];
        let norm = plan.final_norm.as_ref();
        let pooled = norm.map(|norm| PooledNorm {
            input: &a.blocks[last],
            affine: norm.affine(&statistics.folded),
            statistics: map.first(norm.channels),
        });
        shares.clear();
        pool::average_pool_backward(
            self.isa,
            &whole(block.spatial),
            (grad_pooled, &features),
            (grad_block, block),
            pooled,
            (shares.sums(c_in), &mut a.sums, c_in),
        )?;
        if let Some(norm) = norm
            && !frozen[plan.architecture.layers()[norm.layer].stage]
        {
            shares.add_to(norm, gradients);
            shares.add(&self.parameters[norm.gamma.clone()], map.count);
        }
        Ok(())
    }

    /// From the gradient at block `index + 1`'s input to block `index`'s gradient buffer.
    pub(super) fn transition_backward(
        &mut self,
        index: usize,
        block: &Raster,
        next: &Raster,
    ) -> Result<(), NetworkError> {
        let Network {
            plan,
            activations: a,
            gradients,
            shares,
            statistics,
            ..
        } = self;
        let transition = &plan.transitions[index];
        let (conv, frozen) = (&transition.conv, self.frozen[transition.stage]);
        let affine = transition.norm.affine(&statistics.folded);
        let pooled = Raster::dense(next.batch, next.spatial, conv.c_in);
        let output = Raster::dense(next.batch, next.spatial, conv.c_out);
        let Maps {
            grad_block,
            pooled: features,
            grad_pooled,
            ..
        } = a.overlay.maps();
        let mut engine = Engine::new(
            self.isa,
            &mut self.packed,
            &self.parameters,
            &mut a.partials,
        );
        if !frozen {
            let source = (&a.blocks[index][..], block, Some(affine));
            let target = (&mut *features, &pooled);
            pool::average_pool(self.isa, &transition.pool, source, target, conv.c_in)?;
            engine.weight(
                conv,
                Source::Map(features, pooled),
                (&a.grad_input, output),
                gradients,
            )?;
        }
        let target = (&mut *grad_pooled, &pooled);
        engine.input(conv, (&a.grad_input, output), target, Store::Overwrite)?;
        let map = &statistics.blocks[index];
        let norm = PooledNorm {
            input: &a.blocks[index],
            affine,
            statistics: map.first(conv.c_in),
        };
        shares.clear();
        pool::average_pool_backward(
            self.isa,
            &transition.pool,
            (grad_pooled, &pooled),
            (grad_block, block),
            Some(norm),
            (shares.sums(conv.c_in), &mut a.sums, conv.c_in),
        )?;
        if !frozen {
            shares.add_to(&transition.norm, gradients);
            shares.add(&self.parameters[transition.norm.gamma.clone()], map.count);
        }
        Ok(())
    }

    pub(super) fn stem_backward(
        &mut self,
        pass: LastPass,
        size: [usize; 3],
        block: &Raster,
    ) -> Result<(), NetworkError> {
        if self.plan.stem.norm.is_some() && !self.activations.overlay.keeps_stem() {
            self.stem_again(pass, size)?;
        }
        let Network {
            plan,
            activations: a,
            gradients,
            shares,
            statistics,
            ..
        } = self;
        let (stem, conv) = (&plan.stem, &plan.stem.conv);
        let map = Raster::dense(pass.batch, size, conv.c_out);
        let input = Raster::dense(pass.batch, block.spatial, conv.c_out);
        let pool = stem.pool.map(|window| (window, &a.winners, &a.grad_input));
        let pool = pool.map(|(window, winners, grad)| MaxPoolBackward {
            window,
            winners,
            grad_output: (grad, input),
            channels: conv.c_out,
        });
        let own = &statistics.stem;
        let features = a.overlay.stem();
        let grad: &[f32] = match (pool, &stem.norm) {
            (Some(pool), Some(norm)) => {
                let affine = norm.affine(&statistics.folded);
                let before = PooledNorm {
                    input: features,
                    affine,
                    statistics: own.first(norm.channels),
                };
                let sums = (shares.sums(norm.channels), &mut a.sums[..]);
                pool.norm_sums(self.isa, (before, &map), sums)?;
                shares.add_to(norm, gradients);
                let whole = shares.own(affine.scale, false, own);
                pool.through_norm(self.isa, (affine, whole), (features, &map))?;
                features
            }
            (Some(pool), None) => {
                pool.run(self.isa, (features, &map))?;
                features
            }
            (None, Some(norm)) => {
                let affine = norm.affine(&statistics.folded);
                norm::mask_and_sum(
                    self.isa,
                    (features, &map),
                    (affine, own.first(norm.channels)),
                    (&mut a.grad_input, &map),
                    (shares.sums(norm.channels), &mut a.sums),
                )?;
                shares.add_to(norm, gradients);
                let whole = shares.own(affine.scale, false, own);
                let target = (&mut a.grad_input[..], &map);
                norm::combine_in_place(self.isa, whole, (features, &map), target)?;
                &a.grad_input
            }
            (None, None) => &a.grad_input,
        };
        let image = Raster::dense(pass.batch, pass.spatial, conv.c_in);
        if StemWeights::pays(&conv.window, size) {
            let gradient = StemGradient {
                window: conv.window,
                input: image,
                squares: &a.image,
                c_out: conv.c_out,
                grad_output: (grad, map),
            };
            let weight = gradients.of(&conv.weight);
            // Nobody reads the first block's channels any more.
            let partials = match a.blocks.first_mut() {
                Some(block) if block.len() > a.partials.len() => block,
                _ => &mut a.partials,
            };
            return Ok(gradient.run(self.isa, weight, partials)?);
        }
        let image = image.with_halo(conv.window.padding);
        let mut engine = Engine::new(
            self.isa,
            &mut self.packed,
            &self.parameters,
            &mut a.partials,
        );
        engine.weight(conv, Source::Map(&a.image, image), (grad, map), gradients)
    }
}
