//! What is known of data, network and pace.

use densenet::Isa;
use densenet_data::Split;
use serde_json::{Value, json};

use super::{Findings, Pace, Training};
use crate::spec::Architecture;

/// The facts of a run or an evaluation, for the document and for the page.
pub(crate) struct Facts<'a> {
    findings: &'a Findings<'a>,
    architecture: Option<Architecture>,
}

impl<'a> Facts<'a> {
    pub(crate) fn new(findings: &'a Findings<'a>) -> Self {
        Facts {
            findings,
            // A model that has run has an architecture.
            architecture: Architecture::new(&findings.model.config).ok(),
        }
    }

    /// Multiply-adds of one sample, where its size is known.
    pub(crate) fn macs(&self) -> Option<u64> {
        let trace = self.architecture.as_ref()?.trace(self.findings.spatial?);
        Some(trace.ok()?.macs())
    }

    pub(crate) fn parameters(&self) -> Option<usize> {
        Some(self.architecture.as_ref()?.num_parameters())
    }

    pub(crate) fn data(&self) -> Value {
        let dataset = self.findings.dataset;
        let counts = |split| dataset.class_counts(split);
        json!({
            "name": dataset.name(),
            "fingerprint": format!("{:016x}", dataset.fingerprint()),
            "classes": dataset.classes(),
            "volumes": dataset.is_volumes(),
            "input": self.findings.spatial,
            "channels": self.findings.model.config.in_channels,
            "samples": {
                "train": counts(Split::Train),
                "val": counts(Split::Val),
                "test": counts(Split::Test),
            },
        })
    }

    pub(crate) fn network(&self) -> Value {
        let provenance = self.findings.model.provenance.as_ref();
        json!({
            "model": provenance.and_then(|p| p.get("started_from")),
            "spatial_dims": self.findings.model.config.spatial_dims,
            "block_config": self.findings.model.config.block_config,
            "growth_rate": self.findings.model.config.growth_rate,
            "params": self.parameters(),
            "macs": self.macs(),
        })
    }

    pub(crate) fn timing(&self, training: &Training<'_>) -> Value {
        let pace = Pace::new(&training.timing);
        json!({
            "train_seconds": pace.train_seconds,
            "evaluation_seconds": pace.evaluation_seconds,
            "samples_per_second": pace.samples_per_second,
            "waiting_share": pace.waiting_share,
            "threads": rayon::current_num_threads(),
            "isa": isa(),
        })
    }
}

/// The instruction set in use.
pub(crate) fn isa() -> String {
    Isa::active().map_or("unknown".into(), |isa| isa.name().to_string())
}
