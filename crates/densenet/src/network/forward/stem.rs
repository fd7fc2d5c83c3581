//! The stem: convolution, norm, ReLU and pooling, into the first block's buffer.

use densenet_kernels::{Raster, conv::Source, norm, pool, winograd::Stem};

use super::{
    super::{LastPass, Network},
    convolve, fold, measure,
};
use crate::{Input, NetworkError};

impl Network {
    pub(super) fn stem_forward(
        &mut self,
        input: Input<'_>,
        size: [usize; 3],
    ) -> Result<[usize; 3], NetworkError> {
        let (stem, a) = (&self.plan.stem, &mut self.activations);
        let conv = &stem.conv;
        let map = Raster::dense(input.batch, size, conv.c_out);
        let block = |spatial| Raster::dense(input.batch, spatial, self.plan.blocks[0].c_out);
        let alone = stem.norm.is_none() && stem.pool.is_none();
        let target = match alone {
            true => (&mut a.blocks[0][..], &block(size)),
            false => (a.overlay.stem(), &map),
        };
        let image = Raster::dense(input.batch, input.spatial, conv.c_in);
        let engine = (self.isa, &mut self.packed, &self.parameters[..]);
        let own = &mut self.statistics.stem;
        let mut measured = false;
        if let Some(weights) = engine.1.stem(conv, engine.2, size)? {
            let tiles = Stem {
                input: image,
                weights,
                norm_relu: None,
            };
            tiles.prepare(input.data, &mut a.image)?;
            if stem.norm.is_some() {
                let moments = own.moments(0..conv.c_out);
                tiles.run_with_moments(&a.image, target, moments, &mut a.sums)?;
                let eps = self.plan.architecture.config().bn_eps;
                own.finish(0..conv.c_out, map.pixels(), eps);
                measured = true;
            } else {
                tiles.run(&a.image, 0..size[0], target)?;
            }
        } else {
            let padded = image.with_halo(conv.window.padding);
            norm::clear_halo(&mut a.image, &padded)?;
            norm::copy(conv.c_in, (input.data, &image), (&mut a.image, &padded))?;
            convolve(engine, conv, Source::Map(&a.image, padded), target)?;
        }
        if alone {
            return Ok(size);
        }
        let mut affine = None;
        if let Some(norm) = &stem.norm {
            let statistics = &mut self.statistics.stem;
            if !measured {
                measure(
                    self.isa,
                    (a.overlay.stem(), &map),
                    0..conv.c_out,
                    statistics,
                    &mut a.sums,
                    &self.plan,
                )?;
            }
            let folded = &mut self.statistics.folded;
            let buffers = self.frozen[0].then_some(&self.buffers[..]);
            fold(
                norm,
                statistics,
                (&self.parameters, buffers),
                &self.plan,
                folded,
            );
            affine = Some(norm.affine(&self.statistics.folded));
        }
        match (stem.pool, affine) {
            (Some(window), affine) => {
                let pooled = window.output(size).unwrap_or(size);
                let source = (&*a.overlay.stem(), &map, affine);
                let target = (&mut a.blocks[0][..], &block(pooled));
                pool::max_pool(
                    self.isa,
                    &window,
                    source,
                    target,
                    conv.c_out,
                    &mut a.winners,
                )?;
                Ok(pooled)
            }
            (None, Some(affine)) => {
                norm::normalise_relu(
                    self.isa,
                    (a.overlay.stem(), &map),
                    affine,
                    (&mut a.blocks[0], &block(size)),
                )?;
                Ok(size)
            }
            (None, None) => Ok(size),
        }
    }

    /// Computes the map of the last forward pass again, from the image that it left.
    pub(in super::super) fn stem_again(
        &mut self,
        pass: LastPass,
        size: [usize; 3],
    ) -> Result<(), NetworkError> {
        let (conv, a) = (&self.plan.stem.conv, &mut self.activations);
        let map = Raster::dense(pass.batch, size, conv.c_out);
        let image = Raster::dense(pass.batch, pass.spatial, conv.c_in);
        let target = (a.overlay.stem(), &map);
        if let Some(weights) = self.packed.stem(conv, &self.parameters, size)? {
            let tiles = Stem {
                input: image,
                weights,
                norm_relu: None,
            };
            return Ok(tiles.run(&a.image, 0..size[0], target)?);
        }
        let padded = image.with_halo(conv.window.padding);
        let engine = (self.isa, &mut self.packed, &self.parameters[..]);
        convolve(engine, conv, Source::Map(&a.image, padded), target)
    }
}
