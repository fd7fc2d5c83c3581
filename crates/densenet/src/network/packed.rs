//! The weight at hand, packed for the product it takes part in.

use densenet_kernels::{
    Isa, Operand, Panels, Raster,
    conv::{Conv as Convolution, Source, Store},
    winograd::{FusedWeights, FusedWinograd, StemWeights},
};

use crate::{
    NetworkError,
    plan::{Conv, Plan},
};

/// Memory for one packed weight after the other.
pub(super) struct Packed {
    panels: Panels,
    /// For the dense layers' 3×3 or 3×3×3.
    tiles: Option<FusedWeights>,
    /// For a stem that is 7 wide.
    stem: Option<StemWeights>,
}

impl Packed {
    pub(super) fn new(isa: Isa, plan: &Plan) -> Self {
        let mut layers = plan.blocks.iter().flat_map(|b| &b.layers);
        let window = layers.next().map(|layer| layer.last().window);
        let stem = &plan.stem.conv;
        Packed {
            panels: Panels::new(isa),
            tiles: window.and_then(|w| FusedWeights::new(isa, &w).ok()),
            stem: StemWeights::new(isa, &stem.window, [stem.c_in, stem.c_out]).ok(),
        }
    }

    /// The instruction set.
    pub(super) fn isa(&self) -> Isa {
        self.panels.isa()
    }

    /// A weight packed for a product without tiles.
    pub(super) fn panels(
        &mut self,
        (conv, operand): (&Conv, Operand),
        parameters: &[f32],
    ) -> Result<&Panels, NetworkError> {
        let weight = &parameters[conv.weight.clone()];
        self.panels.pack(weight, conv.sizes(), operand)?;
        Ok(&self.panels)
    }

    /// A weight transformed for tiles, if they are the faster way to this output.
    pub(super) fn tiles(
        &mut self,
        (conv, operand): (&Conv, Operand),
        parameters: &[f32],
        output: &Raster,
    ) -> Result<Option<&FusedWeights>, NetworkError> {
        let Some(tiles) = &mut self.tiles else {
            return Ok(None);
        };
        let Some(choice) = FusedWinograd::choose(&conv.window, output) else {
            return Ok(None);
        };
        let weight = &parameters[conv.weight.clone()];
        tiles.pack(weight, [conv.c_in, conv.c_out], operand, choice)?;
        Ok(Some(tiles))
    }

    /// The stem's weight transformed for tiles, if they are the faster way to this output.
    pub(super) fn stem(
        &mut self,
        conv: &Conv,
        parameters: &[f32],
        output: [usize; 3],
    ) -> Result<Option<&StemWeights>, NetworkError> {
        let Some(tiles) = &mut self.stem else {
            return Ok(None);
        };
        if !StemWeights::pays(&conv.window, output) {
            return Ok(None);
        }
        tiles.pack(&parameters[conv.weight.clone()])?;
        Ok(Some(tiles))
    }

    /// Packs a weight for the convolution itself or its input gradient, and runs it.
    pub(super) fn run(
        &mut self,
        (conv, operand): (&Conv, Operand),
        parameters: &[f32],
        source: Source<'_>,
        (output, raster): (&mut [f32], &Raster),
        store: Store<'_>,
    ) -> Result<(), NetworkError> {
        let convolution = Convolution {
            window: conv.window,
            c_in: match operand {
                Operand::Forward => conv.c_in,
                Operand::BackwardInput => conv.c_out,
            },
            source,
            weights: self.panels((conv, operand), parameters)?,
        };
        Ok(convolution.run(output, raster, store)?)
    }
}
