//! Engines that read the ONNX file.

use rten_tensor::prelude::*;
use tract_onnx::prelude::{Framework, InferenceModelExt, IntoRunnable, Tensor, tvec};

use crate::{Array, Failure, Run};

/// tract with its optimised plan; matrix products on `threads` threads.
pub fn tract(model: &str, input: Array, threads: usize) -> Result<Run, Failure> {
    use tract_linalg::multithread::{Executor, set_default_executor};
    if threads > 1 {
        set_default_executor(Executor::multithread(threads));
    }
    let plan = tract_onnx::onnx()
        .model_for_path(model)?
        .into_optimized()?
        .into_runnable()?;
    let input = Tensor::from_shape(&input.shape, &input.data)?;
    Ok(Box::new(move || {
        let found = plan.run(tvec!(input.clone().into()))?;
        let logits = found.first().ok_or("no output")?;
        Ok(logits.view().as_slice::<f32>()?.to_vec())
    }))
}

/// rten with weights packed ahead; it takes its number of threads from `RTEN_NUM_THREADS`.
pub fn rten(model: &str, input: Array) -> Result<Run, Failure> {
    let model = rten::ModelOptions::with_all_ops()
        .prepack_weights(true)
        .load_file(model)?;
    let input = rten_tensor::Tensor::from_data(input.shape.as_slice(), input.data);
    Ok(Box::new(move || {
        let found = model.run_one(input.view().into(), None)?;
        let logits: rten_tensor::Tensor<f32> = found.try_into()?;
        Ok(logits.to_vec())
    }))
}
