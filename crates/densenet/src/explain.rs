//! Why the network answered what it answered: maps over the input.
//!
//! - [`class_activation_map`]: where the evidence for a class lies. Exact, because a DenseNet ends in a global mean and a
//!   linear classifier; costs one prediction.
//!
//! Every map has the same bits at any number of threads.
//!
//! ```
//! use densenet::{Input, Predictor, explain, spec, weights};
//!
//! let config = spec::preset("densenet-40-12")?.config(2)?;
//! let architecture = spec::Architecture::new(&config)?;
//! let state = weights::initialize(&architecture, 0, weights::InitMode::FanIn);
//! let predictor = Predictor::new(&config, &state)?;
//! let image = vec![0.5; 32 * 32 * 3];
//! let input = Input { data: &image, batch: 1, spatial: [1, 32, 32] };
//! let map = explain::class_activation_map(&predictor, &state, input, 3)?;
//! assert_eq!(map.shape, [1, 8, 8]);
//! assert_eq!(map.resized([1, 32, 32]).data.len(), 32 * 32);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cam;
mod error;
mod map;

pub use cam::{ClassActivation, class_activation_map};
pub use error::ExplainError;
pub use map::Map;
