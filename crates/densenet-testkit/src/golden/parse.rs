//! From JSON and safetensors to cases.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use densenet_spec::{Architecture, ConcatOrder, DenseNetConfig, ParameterKind, Stem};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::{AdamW, GoldenError, GoldenTensor, Goldens, LogitsCase, Sgd, TrainingCase, names};

const FORMAT: u64 = 1;

type Tensors = BTreeMap<String, GoldenTensor>;

pub(super) fn load(folder: &Path) -> Result<Goldens, GoldenError> {
    let path = folder.join("index.json");
    let text = fs::read_to_string(&path).map_err(|e| error(&path, e))?;
    let index: Value = serde_json::from_str(&text).map_err(|e| error(&path, e))?;
    let root = Node {
        value: &index,
        at: String::new(),
        path: &path,
    };
    if root.get("format")?.u64()? != FORMAT {
        return Err(root.error(format!("format is not {FORMAT}")));
    }
    let mut files = Files {
        folder,
        read: BTreeMap::new(),
    };
    let versions = match root.get("versions")?.value {
        Value::Object(map) => map
            .iter()
            .map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_string()))
            .collect(),
        _ => return Err(root.error("versions is no object")),
    };
    let mut logits = Vec::new();
    for case in root.get("logits")?.list()? {
        logits.push(logits_case(&case, &mut files)?);
    }
    let mut training = Vec::new();
    for case in root.get("training")?.list()? {
        training.push(training_case(&case, &mut files)?);
    }
    Ok(Goldens {
        versions,
        logits,
        training,
        index: index.clone(),
    })
}

fn logits_case(case: &Node<'_>, files: &mut Files<'_>) -> Result<LogitsCase, GoldenError> {
    let name = case.get("name")?.string()?;
    let (path, tensors) = files.open(&case.get("file")?.string()?)?;
    let errors = case.get("float32_error")?;
    let take = |key: &str| {
        let mut tensor = take(path, tensors, &format!("{name}/{key}"))?;
        tensor.float32_error = errors.get(key)?.f64()?;
        Ok(tensor)
    };
    let mut taps = Vec::new();
    for stage in case.get("taps")?.list()? {
        let stage = stage.string()?;
        let tensor = take(&format!("tap/{stage}"))?;
        taps.push((stage, tensor));
    }
    let mut oracles = Vec::new();
    for oracle in case.get("oracles")?.list()? {
        oracles.push(oracle.string()?);
    }
    Ok(LogitsCase {
        preset: case.value["preset"].as_str().map(str::to_string),
        config: config(&case.get("config")?)?,
        seed: case.get("seed")?.u64()?,
        input_shape: case.get("input_shape")?.sizes()?,
        oracles,
        logits: take("logits")?,
        logits_f32: self::take(path, tensors, &format!("{name}/logits_f32"))?,
        taps,
        name,
    })
}

fn training_case(case: &Node<'_>, files: &mut Files<'_>) -> Result<TrainingCase, GoldenError> {
    let config = config(&case.get("config")?)?;
    let architecture = Architecture::new(&config).map_err(|e| case.error(e))?;
    let (path, tensors) = files.open(&case.get("file")?.string()?)?;
    let errors = case.get("float32_error")?;
    let take = |key: &str| {
        let mut tensor = take(path, tensors, key)?;
        tensor.float32_error = errors.get(key)?.f64()?;
        Ok(tensor)
    };
    let all = |prefix: &str, wanted: fn(ParameterKind) -> bool| {
        let names = names(&architecture, wanted).into_iter();
        let group = names
            .map(|n| take(&format!("{prefix}/{n}")).map(|t| (n, t)))
            .collect::<Result<Vec<_>, _>>();
        group.map(share_peak)
    };
    let (sgd, adamw) = (case.get("sgd")?, case.get("adamw")?);
    let betas = adamw.get("betas")?.list()?;
    let [beta1, beta2] = betas.as_slice() else {
        return Err(adamw.error("betas are not two"));
    };
    Ok(TrainingCase {
        name: case.get("name")?.string()?,
        seed: case.get("seed")?.u64()?,
        input_shape: case.get("input_shape")?.sizes()?,
        label_smoothing: case.get("label_smoothing")?.f64()?,
        kink_margin: case.get("kink_margin")?.f64()?,
        run_kink_margin: case.get("run_kink_margin")?.f64()?,
        logits: take("logits")?,
        loss: take("loss")?,
        grad_input: take("grad_input")?,
        gradients: all("grad", ParameterKind::is_learned)?,
        running: all("running", |k| !k.is_learned())?,
        sgd: Sgd {
            lr: sgd.get("lr")?.f64()?,
            momentum: sgd.get("momentum")?.f64()?,
            nesterov: sgd.get("nesterov")?.bool()?,
            weight_decay: sgd.get("weight_decay")?.f64()?,
            losses: take("sgd_losses")?,
            state: all("sgd", |_| true)?,
        },
        adamw: AdamW {
            lr: adamw.get("lr")?.f64()?,
            beta1: beta1.f64()?,
            beta2: beta2.f64()?,
            eps: adamw.get("eps")?.f64()?,
            weight_decay: adamw.get("weight_decay")?.f64()?,
            losses: take("adamw_losses")?,
            state: all("adamw", |_| true)?,
        },
        config,
    })
}

/// A configuration: the fields of [`DenseNetConfig`] by name.
fn config(node: &Node<'_>) -> Result<DenseNetConfig, GoldenError> {
    let size = |field: &str| node.get(field)?.u64().map(|v| v as usize);
    let stem = node.get("stem")?;
    let order = node.get("concat_order")?;
    let config = DenseNetConfig {
        growth_rate: size("growth_rate")?,
        block_config: node.get("block_config")?.sizes()?,
        num_init_features: size("num_init_features")?,
        bn_size: size("bn_size")?,
        compression: node.get("compression")?.f64()?,
        drop_rate: node.get("drop_rate")?.f64()?,
        num_classes: size("num_classes")?,
        in_channels: size("in_channels")?,
        spatial_dims: size("spatial_dims")?,
        stem: Stem {
            kernel: stem.get("kernel")?.triple()?,
            stride: stem.get("stride")?.triple()?,
            norm: stem.get("norm")?.bool()?,
            pool: stem.get("pool")?.bool()?,
        },
        final_norm: node.get("final_norm")?.bool()?,
        concat_order: ConcatOrder::from_name(&order.string()?)
            .ok_or_else(|| order.error("is no concatenation order"))?,
        bn_eps: node.get("bn_eps")?.f64()?,
        bn_momentum: node.get("bn_momentum")?.f64()?,
    };
    Architecture::new(&config).map_err(|e| node.error(e))?;
    Ok(config)
}

/// The `.safetensors` files, each read once.
struct Files<'a> {
    folder: &'a Path,
    read: BTreeMap<String, (PathBuf, Tensors)>,
}

impl Files<'_> {
    fn open(&mut self, file: &str) -> Result<(&Path, &Tensors), GoldenError> {
        if !self.read.contains_key(file) {
            let path = self.folder.join(file);
            let tensors = read_tensors(&path)?;
            self.read.insert(file.to_string(), (path, tensors));
        }
        let (path, tensors) = &self.read[file];
        Ok((path, tensors))
    }
}

fn read_tensors(path: &Path) -> Result<Tensors, GoldenError> {
    let bytes = fs::read(path).map_err(|e| error(path, e))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| error(path, e))?;
    let mut tensors = Tensors::new();
    for (name, view) in file.tensors() {
        let bytes = view.data();
        let data = match view.dtype() {
            Dtype::F32 => numbers(bytes, |b| f32::from_le_bytes(b) as f64),
            Dtype::F64 => numbers(bytes, f64::from_le_bytes),
            other => return Err(error(path, format!("{name} is {other:?}, not F32 or F64"))),
        };
        let shape = view.shape().to_vec();
        if shape.iter().product::<usize>() != data.len() {
            return Err(error(
                path,
                format!("{name} does not fill its shape {shape:?}"),
            ));
        }
        let group_peak = data.iter().fold(0.0, |peak: f64, v| peak.max(v.abs()));
        tensors.insert(
            name,
            GoldenTensor {
                shape,
                data,
                float32_error: 0.0,
                group_peak,
            },
        );
    }
    Ok(tensors)
}

/// Gives every tensor of a group the largest of their peaks.
fn share_peak(mut group: Vec<(String, GoldenTensor)>) -> Vec<(String, GoldenTensor)> {
    let peaks = group.iter().map(|(_, tensor)| tensor.group_peak);
    let largest = peaks.fold(0.0, f64::max);
    for (_, tensor) in &mut group {
        tensor.group_peak = largest;
    }
    group
}

fn numbers<const N: usize>(bytes: &[u8], from: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|&b| from(b)).collect()
}

fn take(path: &Path, tensors: &Tensors, key: &str) -> Result<GoldenTensor, GoldenError> {
    let found = tensors.get(key).cloned();
    found.ok_or_else(|| error(path, format!("lacks the tensor {key}")))
}

fn error(path: &Path, reason: impl ToString) -> GoldenError {
    GoldenError {
        path: path.to_path_buf(),
        reason: reason.to_string(),
    }
}

/// A JSON value that knows where it stands, for messages.
struct Node<'a> {
    value: &'a Value,
    at: String,
    path: &'a Path,
}

impl<'a> Node<'a> {
    fn error(&self, reason: impl ToString) -> GoldenError {
        error(self.path, format!("{}: {}", self.at, reason.to_string()))
    }

    fn get(&self, field: &str) -> Result<Node<'a>, GoldenError> {
        let at = format!("{}/{field}", self.at);
        match self.value.get(field) {
            Some(value) => Ok(Node {
                value,
                at,
                path: self.path,
            }),
            None => Err(self.error(format!("lacks {field}"))),
        }
    }

    fn list(&self) -> Result<Vec<Node<'a>>, GoldenError> {
        let values = self
            .value
            .as_array()
            .ok_or_else(|| self.error("is no list"))?;
        let node = |(i, value)| Node {
            value,
            at: format!("{}/{i}", self.at),
            path: self.path,
        };
        Ok(values.iter().enumerate().map(node).collect())
    }

    fn sizes(&self) -> Result<Vec<usize>, GoldenError> {
        let sizes = self.list()?.into_iter();
        sizes.map(|s| s.u64().map(|v| v as usize)).collect()
    }

    fn triple(&self) -> Result<[usize; 3], GoldenError> {
        let sizes = self.sizes()?;
        sizes
            .try_into()
            .map_err(|_| self.error("is not three sizes"))
    }

    fn u64(&self) -> Result<u64, GoldenError> {
        self.value
            .as_u64()
            .ok_or_else(|| self.error("is no whole number"))
    }

    fn f64(&self) -> Result<f64, GoldenError> {
        self.value
            .as_f64()
            .ok_or_else(|| self.error("is no number"))
    }

    fn bool(&self) -> Result<bool, GoldenError> {
        self.value
            .as_bool()
            .ok_or_else(|| self.error("is neither true nor false"))
    }

    fn string(&self) -> Result<String, GoldenError> {
        let text = self
            .value
            .as_str()
            .ok_or_else(|| self.error("is no string"))?;
        Ok(text.to_string())
    }
}
