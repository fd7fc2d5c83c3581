//! `densenet bench`: how fast this machine runs a network.

mod measure;

use std::ops::ControlFlow;

use clap::Args;
use densenet::{Input, Isa, KernelTime, Network, NetworkOptions, memory, peak_gflops};
use densenet_spec::Architecture;
use densenet_train::{CrossEntropy, Optimizer, Rule, Segment};
use densenet_weights::{InitMode, Model, initialize};
use serde_json::json;

use crate::{
    failure::Failure,
    machine,
    options::{
        config::ConfigOptions,
        model::{self, Source, preset_list},
        number::{positive, whole},
        run::{Dtype, RunOptions},
        size::Size,
        usual,
    },
    output,
};
use measure::Times;

/// Time a network on this machine
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub struct Bench {
    /// A preset's name or a model file
    #[arg(value_name = "PRESET|MODEL")]
    model: String,
    /// Size of the input, like 224, 224x192 or 96x96x64 [default: 224; 96 in 3-D; 32 for the small stem]
    #[arg(long, value_name = "SIZE")]
    input: Option<Size>,
    /// Samples in a batch
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    batch: usize,
    /// Time a training step (forward, loss, backward, SGD with momentum) instead of a prediction
    #[arg(long)]
    train: bool,
    /// Train with bottlenecks recomputed instead of kept
    #[arg(long, requires = "train")]
    memory_efficient: bool,
    /// Numbers to compute with
    #[arg(long, value_enum, default_value_t = Dtype::F32, value_name = "f32|bf16", hide_possible_values = true)]
    dtype: Dtype,
    /// Runs to time
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = positive)]
    iterations: usize,
    /// Runs before that, not timed
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = whole)]
    warmup: usize,
    /// Also show each stage's kernels: calls, time, rate, share of the peak
    #[arg(long)]
    kernels: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    run: RunOptions,
    #[command(flatten)]
    config: ConfigOptions,
}

fn after_help() -> String {
    format!(
        "GFLOP/s count two operations for every multiply-add of a direct convolution, whatever way it is computed; a \
training step counts three times a prediction. The peak is what register tiles reach on this machine with operands in \
the first-level cache; Winograd's tiles, which need fewer multiplications, can pass it.

{}
Examples:
  densenet bench densenet121
  densenet bench densenet121 --batch 8 --train --threads 2
  densenet bench densenet121 --dtype bf16 --kernels
  densenet bench model.safetensors --input 64x96x96 --json",
        preset_list()
    )
}

impl Bench {
    /// Warms up, times, prints.
    ///
    /// # Errors
    /// A model or configuration that cannot be used, an input too small.
    pub fn run(self) -> Result<(), Failure> {
        self.run.prepare()?;
        if self.train && self.dtype == Dtype::Bf16 {
            return Err(Failure::usage(
                "--dtype bf16: a training step computes in f32 — leave out --dtype or --train",
            ));
        }
        let model = self.network()?;
        let architecture = Architecture::new(&model.config)?;
        let spatial = match &self.input {
            Some(size) => size
                .axes(model.config.spatial_dims, 1)
                .map_err(|what| Failure::usage(format_args!("--input: {what}")))?,
            None => usual::input(&architecture),
        };
        let isa = Isa::active().map_err(Failure::usage)?.name();
        usual::within_limits(spatial, self.batch)?;
        let needed = memory::estimate(&architecture, spatial, self.batch)?;
        let needed = match (self.train, self.memory_efficient) {
            (true, true) => needed.train_memory_efficient_bytes,
            (true, false) => needed.train_bytes,
            (false, _) => needed.infer_bytes,
        };
        machine::require(
            needed as u64,
            &format!("--batch {}", self.batch),
            "give a smaller --batch or --input",
        )?;
        let macs = architecture
            .trace(spatial)?
            .macs()
            .saturating_mul(self.batch as u64);
        let pixels: usize = spatial.iter().product();
        let data = measure::noise(pixels * model.config.in_channels * self.batch);
        let input = Input {
            data: &data,
            batch: self.batch,
            spatial,
        };
        let (times, stages, step_bytes) = if self.train {
            let (times, bytes) = self.time_training(model, input)?;
            (times, Vec::new(), bytes)
        } else {
            let (times, stages) = self.time_prediction(model, input)?;
            (times, stages, None)
        };
        // A backward pass computes two products where the forward pass computes one.
        let passes = if self.train { 3.0 } else { 1.0 };
        let bf16 = self.dtype == Dtype::Bf16;
        self.print(&Report {
            peak_gflops: peak_gflops(Isa::active().map_err(Failure::usage)?, bf16),
            gflops: passes * 2.0 * macs as f64 / (times.median() * 1e6),
            times,
            stages,
            isa,
            peak_rss_bytes: machine::peak_rss_bytes(),
            step_bytes,
        })
    }

    fn network(&self) -> Result<Model, Failure> {
        match Source::find(&self.model)? {
            Source::Preset(preset) => {
                let config = self.config.configure(&preset)?;
                let architecture = Architecture::new(&config)?;
                let mode = InitMode::default_for(config.spatial_dims);
                Ok(Model::new(config, initialize(&architecture, 0, mode))?)
            }
            Source::File(path) => {
                self.config.refuse(&path)?;
                Ok(model::load(&path)?)
            }
        }
    }

    fn time_prediction(
        &self,
        model: Model,
        input: Input<'_>,
    ) -> Result<(Times, Vec<Stage>), Failure> {
        let predictor = self.dtype.predictor(&model)?;
        drop(model);
        let times = Times::of(self.warmup, self.iterations, || {
            predictor.run(input).map(drop)
        })?;
        let mut by_stage: Vec<(String, Vec<f64>)> = Vec::new();
        for _ in 0..self.iterations {
            for (index, stage) in predictor.run_timed(input)?.1.into_iter().enumerate() {
                let milliseconds = stage.time.as_secs_f64() * 1e3;
                match by_stage.get_mut(index) {
                    Some((_, times)) => times.push(milliseconds),
                    None => by_stage.push((stage.name, vec![milliseconds])),
                }
            }
        }
        let mut by_kernel: Vec<(KernelTime, Vec<f64>)> = Vec::new();
        for _ in 0..self.iterations {
            for kernel in predictor.run_profiled(input)?.1 {
                let milliseconds = kernel.time.as_secs_f64() * 1e3;
                let same = |k: &KernelTime| k.id == kernel.id && k.stage == kernel.stage;
                match by_kernel.iter_mut().find(|(k, _)| same(k)) {
                    Some((_, times)) => times.push(milliseconds),
                    None => by_kernel.push((kernel, vec![milliseconds])),
                }
            }
        }
        let mut kernels: Vec<Kernel> = by_kernel
            .into_iter()
            .map(|(kernel, times)| {
                let median = Times::from(times).median();
                Kernel {
                    gflops: 2.0 * kernel.macs as f64 / (median * 1e6),
                    calls: kernel.calls,
                    stage: kernel.stage,
                    id: kernel.id,
                    median,
                }
            })
            .collect();
        let mut stages: Vec<Stage> = by_stage
            .into_iter()
            .map(|(name, times)| Stage {
                kernels: kernels
                    .extract_if(.., |kernel| kernel.stage == name)
                    .collect(),
                name,
                median: Times::from(times).median(),
                share: 0.0,
            })
            .collect();
        let sum: f64 = stages.iter().map(|stage| stage.median).sum();
        for stage in &mut stages {
            stage.share = stage.median / sum;
        }
        Ok((times, stages))
    }

    /// The times of whole steps, and how much the process's peak of memory rose above the loaded model.
    fn time_training(
        &self,
        model: Model,
        input: Input<'_>,
    ) -> Result<(Times, Option<u64>), Failure> {
        let loaded = machine::resident_bytes();
        let options = NetworkOptions {
            memory_efficient: self.memory_efficient,
            ..NetworkOptions::default()
        };
        let mut network = Network::new(&model.config, &model.state, &options)?;
        let classes = model.config.num_classes;
        drop(model);
        let segments = network.views().iter().map(|view| Segment {
            range: view.range.clone(),
            decay: true,
        });
        let rule = Rule::Sgd {
            momentum: 0.9,
            nesterov: true,
            weight_decay: 1e-4,
        };
        let mut optimizer = Optimizer::new(rule, segments.collect(), network.parameters().len());
        let labels: Vec<u32> = (0..input.batch)
            .map(|sample| (sample % classes) as u32)
            .collect();
        let loss = CrossEntropy::default();
        let mut grad = vec![0.0; input.batch * classes];
        let mut step = 0;
        let times = Times::of(self.warmup, self.iterations, || {
            let logits = network.forward(input, step)?;
            step += 1;
            let sum = loss.forward_backward(logits, &labels, &mut grad);
            network.update_running_statistics();
            optimizer.begin();
            let _ = network.backward_by_part(&grad, |part| {
                let (start, scale) = (part.range.start, 1.0 / sum.weight);
                optimizer.step_part(start, part.parameters, part.gradients, 1e-3, scale);
                ControlFlow::Continue(())
            })?;
            Ok::<_, Failure>(())
        })?;
        let peak = machine::peak_rss_bytes();
        Ok((
            times,
            peak.zip(loaded)
                .map(|(peak, loaded)| peak.saturating_sub(loaded)),
        ))
    }

    fn print(&self, report: &Report) -> Result<(), Failure> {
        let threads = rayon::current_num_threads();
        let isa = report.isa;
        if self.json {
            let stages: Vec<_> = report
                .stages
                .iter()
                .map(|stage| {
                    let kernels = stage.kernels.iter().map(|kernel| {
                        json!({
                            "id": kernel.id,
                            "calls": kernel.calls,
                            "median_ms": kernel.median,
                            "gflops": kernel.gflops,
                            "peak_share": kernel.gflops / report.peak_gflops,
                        })
                    });
                    json!({
                        "name": stage.name,
                        "median_ms": stage.median,
                        "share": stage.share,
                        "kernels": kernels.collect::<Vec<_>>(),
                    })
                })
                .collect();
            let mut document = json!({
                "median_ms": report.times.median(),
                "min_ms": report.times.min(),
                "times_ms": report.times.sorted(),
                "gflops": report.gflops,
                "peak_gflops": report.peak_gflops,
                "peak_rss_bytes": report.peak_rss_bytes,
                "threads": threads,
                "isa": isa,
                "stages": stages,
            });
            if let Some(bytes) = report.step_bytes {
                document["step_bytes"] = json!(bytes);
            }
            return output::print_json(&document);
        }
        let what = if self.train {
            "training step"
        } else {
            "prediction"
        };
        let mut lines = vec![
            (
                "Timed".to_string(),
                format!(
                    "{what}, batch {}, {}, {isa}",
                    self.batch,
                    output::counted(threads, "thread")
                ),
            ),
            (
                "Median".to_string(),
                format!("{:.2} ms", report.times.median()),
            ),
            (
                "Minimum".to_string(),
                format!("{:.2} ms", report.times.min()),
            ),
            (
                "Rate".to_string(),
                format!(
                    "{:.1} GFLOP/s, {:.0} % of {:.1}",
                    report.gflops,
                    100.0 * report.gflops / report.peak_gflops,
                    report.peak_gflops
                ),
            ),
        ];
        if let Some(bytes) = report.peak_rss_bytes {
            lines.push(("Peak memory".to_string(), output::bytes(bytes)));
        }
        if let Some(bytes) = report.step_bytes {
            lines.push(("Of a step".to_string(), output::bytes(bytes)));
        }
        for stage in &report.stages {
            let value = format!("{:.2} ms  {:.0} %", stage.median, 100.0 * stage.share);
            lines.push((stage.name.clone(), value));
            for kernel in self.kernels.then_some(&stage.kernels).into_iter().flatten() {
                let value = match kernel.gflops > 0.0 {
                    true => format!(
                        "{:.2} ms  {:.0} GFLOP/s  {:.0} %  {}",
                        kernel.median,
                        kernel.gflops,
                        100.0 * kernel.gflops / report.peak_gflops,
                        kernel.id
                    ),
                    false => format!("{:.2} ms  {}", kernel.median, kernel.id),
                };
                lines.push((format!("  ×{}", kernel.calls), value));
            }
        }
        output::print(&output::pairs(&lines, output::width()))
    }
}

/// What was found out.
struct Report {
    times: Times,
    gflops: f64,
    /// What the threads reach on operands in the first-level cache.
    peak_gflops: f64,
    stages: Vec<Stage>,
    isa: &'static str,
    peak_rss_bytes: Option<u64>,
    /// Of training: how far memory rose above the loaded model.
    step_bytes: Option<u64>,
}

/// A part of the network and the time it takes.
struct Stage {
    name: String,
    median: f64,
    share: f64,
    kernels: Vec<Kernel>,
}

/// A kernel of a stage, all its calls together.
struct Kernel {
    stage: String,
    id: String,
    calls: usize,
    median: f64,
    /// Counted as direct convolution; 0 for a pooling.
    gflops: f64,
}
