//! A model file whose kernels stay in it until they are asked for.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use densenet_spec::DenseNetConfig;

use super::{DIGEST, Model, ModelDigest};
use crate::{
    StateDict, Tensor, WeightsError, files,
    mismatch::Mismatch,
    raw::Item,
    safetensors::{self, Info},
};

/// A model file, verified as [`Model::load`] does it, of which only the vectors (norms, biases) are in memory.
#[derive(Debug)]
pub struct OpenModel {
    model: Model,
    kernels: HashMap<String, (Info, u64)>,
    reader: BufReader<File>,
    path: PathBuf,
}

impl OpenModel {
    /// Opens a model file and reads it once from end to end.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let (file, length) = files::open(path)?;
        Self::verified(BufReader::new(file), length, path).map_err(|error| error.at(path))
    }

    fn verified(
        mut reader: BufReader<File>,
        length: u64,
        path: &Path,
    ) -> Result<Self, WeightsError> {
        let (header, mut start) = safetensors::header(&mut reader, length)?;
        let (text, mut model) = Model::described(&header.metadata, header.tensors.len())?;
        let (mut counters, mut places) = (Vec::new(), HashMap::new());
        for info in header.tensors {
            let bytes = info.len_bytes();
            if info.is_counter()? {
                reader
                    .seek(SeekFrom::Start(start))
                    .map_err(safetensors::reading)?;
                let value = safetensors::counter(&mut reader)?;
                counters.push((info.name, value));
            } else {
                // Its shape stands for it until its turn comes.
                let (shape, data) = (info.shape.clone(), Vec::new());
                model
                    .state
                    .insert(info.name.clone(), Tensor { shape, data });
                places.insert(info.name.clone(), (info, start));
            }
            start += bytes;
        }
        let architecture = model.check_by(Mismatch::between_shapes)?;
        model.state = super::in_order(&architecture, std::mem::take(&mut model.state));
        model.check_counters(&architecture, &counters)?;
        let mut opened = OpenModel {
            model,
            kernels: places,
            reader,
            path: path.to_path_buf(),
        };
        let mut digest = ModelDigest::new(&text);
        let mut vectors = Vec::new();
        for (name, item) in opened.model.items(&architecture) {
            if let Item::Counter(_) = item {
                digest.add(&name, &item);
                continue;
            }
            let Some(tensor) = read(&opened.kernels, &mut opened.reader, &name)? else {
                continue;
            };
            digest.add(&name, &Item::Float(&tensor));
            if tensor.shape.len() <= 1 {
                vectors.push((name, tensor));
            }
        }
        digest.check(header.metadata.get(DIGEST).map(String::as_str))?;
        for (name, tensor) in vectors {
            opened.kernels.remove(&name);
            opened.model.state.insert(name, tensor);
        }
        Ok(opened)
    }

    /// Which network it is.
    pub fn config(&self) -> &DenseNetConfig {
        &self.model.config
    }

    /// The vectors; of the kernels, shapes alone.
    pub fn vectors(&self) -> &StateDict {
        &self.model.state
    }

    /// Reads the kernel `name`; a vector, or a name that the network does not have, is none.
    ///
    /// # Errors
    /// What the system reports, or a number that is not finite: the file has changed.
    pub fn kernel(&mut self, name: &str) -> Result<Option<Tensor>, WeightsError> {
        read(&self.kernels, &mut self.reader, name).map_err(|error| error.at(&self.path))
    }

    /// Reads all kernels.
    ///
    /// # Errors
    /// As [`OpenModel::kernel`].
    pub fn into_model(mut self) -> Result<Model, WeightsError> {
        let names: Vec<String> = self.kernels.keys().cloned().collect();
        for name in names {
            if let Some(tensor) = self.kernel(&name)? {
                self.model.state.insert(name, tensor);
            }
        }
        Ok(self.model)
    }
}

/// Reads a tensor from its place.
fn read(
    places: &HashMap<String, (Info, u64)>,
    reader: &mut BufReader<File>,
    name: &str,
) -> Result<Option<Tensor>, WeightsError> {
    let Some((info, start)) = places.get(name) else {
        return Ok(None);
    };
    reader
        .seek(SeekFrom::Start(*start))
        .map_err(safetensors::reading)?;
    let tensor = Tensor {
        shape: info.shape.clone(),
        data: safetensors::floats(reader, info)?,
    };
    tensor.check_finite(name)?;
    Ok(Some(tensor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InitMode, initialize};
    use densenet_spec::{Architecture, preset};

    #[test]
    fn an_open_model_gives_what_a_loaded_one_holds() {
        let mut config = preset("densenet-bc-100-12").unwrap().config(3).unwrap();
        config.block_config = vec![2, 2];
        let state = initialize(&Architecture::new(&config).unwrap(), 3, InitMode::FanIn);
        let model = Model::new(config, state).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        model.save(&path).unwrap();
        let mut open = OpenModel::open(&path).unwrap();
        assert_eq!(open.config(), &model.config);
        assert_eq!(open.kernel("features.nowhere").unwrap(), None);
        for (name, tensor) in model.state.iter() {
            let found = match tensor.shape.len() {
                1 => open.vectors().get(name).cloned(),
                _ => open.kernel(name).unwrap(),
            };
            assert_eq!(found.as_ref(), Some(tensor), "{name}");
        }
        assert_eq!(open.into_model().unwrap(), model);
    }

    /// Whatever byte is wrong, both ways of reading say the same.
    #[test]
    fn damage_is_found_as_by_loading() {
        let mut config = preset("densenet-bc-100-12").unwrap().config(2).unwrap();
        config.block_config = vec![1];
        config.num_init_features = 2;
        config.num_classes = 2;
        let state = initialize(&Architecture::new(&config).unwrap(), 3, InitMode::FanIn);
        let model = Model::new(config, state).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        model.save(&path).unwrap();
        let good = std::fs::read(&path).unwrap();
        let said = |error: Option<WeightsError>| error.map(|e| (e.exit_code(), e.to_string()));
        for place in (0..good.len()).step_by(7) {
            let mut bytes = good.clone();
            bytes[place] ^= 0x40;
            std::fs::write(&path, &bytes).unwrap();
            let loaded = said(Model::load(&path).err());
            let opened = said(OpenModel::open(&path).err());
            assert_eq!(
                loaded.as_ref().map(|e| e.0),
                opened.as_ref().map(|e| e.0),
                "byte {place}: {loaded:?}, {opened:?}"
            );
        }
        for len in [0, 7, 9, good.len() / 2, good.len() - 1] {
            std::fs::write(&path, &good[..len]).unwrap();
            assert_eq!(
                said(Model::load(&path).err()),
                said(OpenModel::open(&path).err())
            );
        }
    }
}
