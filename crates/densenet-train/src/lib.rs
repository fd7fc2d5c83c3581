#![forbid(unsafe_code)]
//! The training loop: optimisers, schedules, metrics, checkpoints.
