//! The weight at hand, packed for the product it takes part in.

use densenet_kernels::{
    Isa, Operand, Panels, Raster,
    conv::{Conv as Convolution, Source, Store},
    winograd::{Tiles, Winograd, WinogradWeights},
};

use crate::{
    NetworkError,
    plan::{Conv, Plan},
};

/// Memory for one packed weight after the other.
pub(super) struct Packed {
    panels: Panels,
    /// For the dense layers' 3×3 or 3×3×3. Tiles of 2: those of 4 would cost the gradients four more bits.
    tiles: Option<WinogradWeights>,
}

impl Packed {
    pub(super) fn new(isa: Isa, plan: &Plan) -> Self {
        let mut layers = plan.blocks.iter().flat_map(|b| &b.layers);
        let window = layers.next().map(|layer| layer.last().window);
        Packed {
            panels: Panels::new(isa),
            tiles: window.and_then(|w| WinogradWeights::new(isa, &w, Tiles::Two).ok()),
        }
    }

    /// The instruction set.
    pub(super) fn isa(&self) -> Isa {
        self.panels.isa()
    }

    /// Packs a weight for the convolution itself or its input gradient, and runs it.
    pub(super) fn run(
        &mut self,
        (conv, operand): (&Conv, Operand),
        weight: &[f32],
        source: Source<'_>,
        (output, raster): (&mut [f32], &Raster),
        store: Store<'_>,
    ) -> Result<(), NetworkError> {
        let tiled = WinogradWeights::choose(&conv.window, raster.spatial, false).is_some();
        if let (Some(weights), Source::Map(data, input), Store::Overwrite) =
            (&mut self.tiles, source, &store)
            && tiled
        {
            weights.pack(weight, [conv.c_in, conv.c_out], operand)?;
            let source = (data, input);
            return Ok(Winograd { source, weights }.run(output, raster)?);
        }
        self.panels.pack(weight, conv.sizes(), operand)?;
        let convolution = Convolution {
            window: conv.window,
            c_in: match operand {
                Operand::Forward => conv.c_in,
                Operand::BackwardInput => conv.c_out,
            },
            source,
            weights: &self.panels,
        };
        Ok(convolution.run(output, raster, store)?)
    }
}
