//! A network's convolutions, packed for inference.

use std::sync::OnceLock;

use densenet_kernels::{
    Isa, KernelError, Operand, Panels,
    winograd::{StemWeights, WinogradWeights},
};

use super::Dtype;
use crate::{NetworkError, plan::Conv};

/// A 1×1 convolution's weight.
pub(super) fn pointwise(
    (isa, dtype): (Isa, Dtype),
    conv: &Conv,
    weight: &[f32],
) -> Result<Panels, NetworkError> {
    Ok(match dtype {
        Dtype::F32 => Panels::packed(isa, weight, conv.sizes(), Operand::Forward)?,
        Dtype::Bf16 => Panels::packed_bf16(isa, weight, conv.sizes())?,
    })
}

/// A 3×3 or 3×3×3 convolution's weight, and what it becomes for maps of different sizes.
pub(super) struct SpatialWeights {
    /// As it is computed on the smallest maps.
    pub direct: Panels,
    /// Whether it is computed in bf16 where it is computed directly: its map then holds pairs of channels.
    in_bf16: bool,
    /// Rounded to bf16, from the first run on whose maps ask for it.
    bf16: OnceLock<Panels>,
    /// Transformed for tiles of 2 and of 4, from the first run on whose maps ask for it.
    tiles: [OnceLock<WinogradWeights>; 2],
}

/// How a 3×3 or 3×3×3 convolution is computed.
pub(super) enum Way<'a> {
    Direct(&'a Panels),
    /// On a map of bf16 pairs.
    DirectBf16(&'a Panels),
    Tiles(&'a WinogradWeights),
}

impl SpatialWeights {
    /// `bottleneck`: whether a 1×1 convolution writes the map.
    pub(super) fn new(
        (isa, dtype): (Isa, Dtype),
        conv: &Conv,
        weight: &[f32],
        bottleneck: bool,
    ) -> Result<Self, NetworkError> {
        Ok(SpatialWeights {
            direct: Panels::packed(isa, weight, conv.sizes(), Operand::Forward)?,
            in_bf16: dtype == Dtype::Bf16 && bottleneck && conv.c_in.is_multiple_of(2),
            bf16: OnceLock::new(),
            tiles: [OnceLock::new(), OnceLock::new()],
        })
    }

    /// Prepares the way for maps of this size, where it is not there yet.
    ///
    /// The size of a sample's map decides, never the batch, so that a sample's result does not depend on its batch.
    pub(super) fn prepare(&self, conv: &Conv, spatial: [usize; 3]) -> Result<(), KernelError> {
        let isa = self.direct.isa();
        if let Some(tiles) = WinogradWeights::choose(&conv.window, spatial, self.in_bf16) {
            let slot = &self.tiles[tiles as usize];
            if slot.get().is_none() {
                let sizes = [conv.c_in, conv.c_out];
                let window = (&conv.window, tiles);
                let weight = self.direct.unpacked();
                let weights = WinogradWeights::packed(isa, &weight, window, sizes)?;
                slot.get_or_init(|| weights);
            }
        } else if self.in_bf16 && self.bf16.get().is_none() {
            let panels = Panels::packed_bf16(isa, &self.direct.unpacked(), conv.sizes())?;
            self.bf16.get_or_init(|| panels);
        }
        Ok(())
    }

    /// The way for maps of this size, once it is prepared.
    pub(super) fn way(&self, conv: &Conv, spatial: [usize; 3]) -> Way<'_> {
        let tiles = WinogradWeights::choose(&conv.window, spatial, self.in_bf16);
        let tiles = tiles.and_then(|tiles| self.tiles[tiles as usize].get());
        match (tiles, self.bf16.get()) {
            (Some(weights), _) => Way::Tiles(weights),
            (None, Some(panels)) => Way::DirectBf16(panels),
            (None, None) => Way::Direct(&self.direct),
        }
    }
}

/// The stem's weight.
pub(super) struct StemPanels {
    pub direct: Panels,
    /// Transformed, from the first run on whose maps ask for it.
    tiles: OnceLock<StemWeights>,
}

impl StemPanels {
    pub(super) fn new(isa: Isa, conv: &Conv, weight: &[f32]) -> Result<Self, NetworkError> {
        Ok(StemPanels {
            direct: Panels::packed(isa, weight, conv.sizes(), Operand::Forward)?,
            tiles: OnceLock::new(),
        })
    }

    /// Transforms the kernel, where tiles pay for outputs of this size and it is not done yet.
    pub(super) fn prepare(&self, conv: &Conv, spatial: [usize; 3]) -> Result<(), KernelError> {
        if StemWeights::pays(&conv.window, spatial) && self.tiles.get().is_none() {
            let (isa, weight) = (self.direct.isa(), self.direct.unpacked());
            let sizes = [conv.c_in, conv.c_out];
            let weights = StemWeights::packed(isa, &weight, &conv.window, sizes)?;
            self.tiles.get_or_init(|| weights);
        }
        Ok(())
    }

    /// The transformed kernel, where tiles pay.
    pub(super) fn tiles(&self, conv: &Conv, spatial: [usize; 3]) -> Option<&StemWeights> {
        let pays = StemWeights::pays(&conv.window, spatial);
        self.tiles.get().filter(|_| pays)
    }
}
