//! How to compute: threads, device, numbers.

use clap::{Args, ValueEnum};
use densenet::{Isa, NetworkError, Predictor, PredictorOptions};
use densenet_weights::Model;

use super::number::positive;
use crate::failure::Failure;

/// Options of every command that computes.
#[derive(Debug, Clone, Args)]
pub struct RunOptions {
    /// Threads to compute with; changes no bit of the result [default: all cores]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub threads: Option<usize>,
    /// Where to compute
    #[arg(long, value_enum, default_value_t = Device::Cpu, value_name = "NAME", hide_possible_values = true)]
    pub device: Device,
}

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Device {
    Cpu,
}

/// The numbers to compute with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    F32,
    Bf16,
}

impl RunOptions {
    /// Sets up the threads. Call it once, before anything computes.
    ///
    /// # Errors
    /// The system refuses the threads.
    pub fn prepare(&self) -> Result<(), Failure> {
        let Device::Cpu = self.device;
        let threads = match self.threads {
            Some(threads) if threads > MOST_THREADS => {
                return Err(Failure::usage(format_args!(
                    "--threads {threads}: more than {MOST_THREADS} — give at most the number of cores"
                )));
            }
            threads => threads.unwrap_or(0),
        };
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .map_err(|error| {
                Failure::usage(format_args!(
                    "--threads {threads}: {error} — give a smaller number"
                ))
            })
    }
}

/// More threads than any machine has cores; each takes memory.
const MOST_THREADS: usize = 1024;

impl From<Dtype> for densenet::Dtype {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => densenet::Dtype::F32,
            Dtype::Bf16 => densenet::Dtype::Bf16,
        }
    }
}

impl Dtype {
    /// How to compute with these numbers.
    ///
    /// # Errors
    /// `DENSENET_ISA` is wrong.
    pub fn options(self) -> Result<PredictorOptions, NetworkError> {
        let isa = Isa::active().map_err(NetworkError::Isa)?;
        let dtype = self.into();
        Ok(PredictorOptions { isa, dtype })
    }

    /// A network compiled for these numbers.
    ///
    /// # Errors
    /// As [`Predictor::with_options`].
    pub fn predictor(self, model: &Model) -> Result<Predictor, NetworkError> {
        Predictor::with_options(&model.config, &model.state, &self.options()?)
    }
}
