//! Where the time of a run goes, kernel by kernel.

use std::time::Instant;

use densenet_spec::{Architecture, Trace};

use super::KernelTime;

/// Collects the kernels' times, if somebody wants to know them.
pub(super) struct Profile<'a> {
    pub kernels: Option<&'a mut Vec<KernelTime>>,
    pub architecture: &'a Architecture,
    pub trace: &'a Trace,
    /// The stage at hand.
    pub stage: usize,
    /// Samples that pass at a time at the moment.
    pub batch: usize,
}

/// A kernel that runs at the moment, where times are collected.
pub(super) type Started = Option<(Instant, String)>;

impl Profile<'_> {
    /// Before a kernel runs.
    pub(super) fn start(&self, id: impl FnOnce() -> String) -> Started {
        self.kernels.as_ref().map(|_| {
            let id = id();
            (Instant::now(), id)
        })
    }

    /// After the kernel, which computed `layer` of the architecture.
    pub(super) fn end(&mut self, started: Started, layer: usize) {
        self.end_part(started, layer, (1, 1));
    }

    /// [`Profile::end`] of a kernel that computed `part` out of `all` of its layer.
    pub(super) fn end_part(&mut self, started: Started, layer: usize, (part, all): (usize, usize)) {
        let (Some(kernels), Some((start, id))) = (self.kernels.as_mut(), started) else {
            return;
        };
        let time = start.elapsed();
        let stage = &self.architecture.stages()[self.stage].name;
        let macs = self.trace.layers[layer].macs * self.batch as u64 * part as u64 / all as u64;
        match kernels.iter_mut().find(|k| k.id == id && k.stage == *stage) {
            Some(kernel) => {
                kernel.calls += 1;
                kernel.macs += macs;
                kernel.time += time;
            }
            None => kernels.push(KernelTime {
                stage: stage.clone(),
                id,
                calls: 1,
                macs,
                time,
            }),
        }
    }
}
