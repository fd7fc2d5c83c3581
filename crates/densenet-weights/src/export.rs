//! From a model to a weights file in any dialect.

use std::{io::Write, path::Path};

use crate::{
    Model, atomic,
    dialect::{self, DIALECTS, Dialect},
    error::{Problem, WeightsError},
    pth,
    raw::Item,
    safetensors,
};

/// What an export did.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// The dialect that was written.
    pub dialect: &'static str,
    /// What a user of the file has to know, one sentence each.
    pub notes: Vec<String>,
}

/// Writes the weights of `model` to `path`, `.pth`/`.pt` or `.safetensors` by its ending, atomically.
///
/// Without a dialect the first one whose class can be this network is taken: torchvision's in 2-D, MONAI's in 3-D. PyTorch
/// loads the file with `strict=True` into a class of that dialect with the same configuration.
///
/// # Errors
/// `Problem::Usage` for an unknown ending or dialect, or one whose class cannot be this network; otherwise as
/// [`Model::check`] and [`atomic::write`].
pub fn export(model: &Model, path: &Path, dialect: Option<&str>) -> Result<Exported, WeightsError> {
    let dialect = choose(model, dialect)?;
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .map(str::to_ascii_lowercase);
    let architecture = model.check()?;
    let items: Vec<(String, Item<'_>)> = model
        .items(&architecture)
        .into_iter()
        .filter(|(_, item)| dialect.counters() || matches!(item, Item::Float(_)))
        .filter_map(|(name, item)| Some((dialect.rename(&name)?, item)))
        .collect();
    type Fill<'a> = Box<dyn FnOnce(&mut dyn Write) -> std::io::Result<()> + 'a>;
    let fill: Fill<'_> = match extension.as_deref() {
        Some("pth" | "pt") => Box::new(|out| pth::write(out, &items, dialect.wrapper())),
        Some("safetensors") => {
            Box::new(|out| safetensors::write(out, &items, &[("format", "pt".to_string())]))
        }
        _ => {
            return Err(Problem::Usage {
                option: "output",
                what: format!("the ending of `{}` names no weights format", path.display()),
                cure: "end the name with .pth, .pt or .safetensors".to_string(),
            }
            .into());
        }
    };
    atomic::write(path, fill)?;
    Ok(Exported {
        dialect: dialect.name,
        notes: dialect.remarks(&model.config),
    })
}

/// The named dialect, or the first that can express the network.
fn choose(model: &Model, name: Option<&str>) -> Result<&'static Dialect, WeightsError> {
    let refused = |what: String| {
        WeightsError::from(Problem::Usage {
            option: "dialect",
            what,
            cure: "choose another dialect, or keep the model file: it is a .safetensors under torchvision's names"
                .to_string(),
        })
    };
    match name {
        Some(name) => {
            let dialect = dialect::dialect(name)?;
            match dialect.objection(&model.config) {
                None => Ok(dialect),
                Some(reason) => Err(refused(format!(
                    "the {} class cannot be this network: {reason}",
                    dialect.name
                ))),
            }
        }
        None => DIALECTS
            .iter()
            .find(|dialect| dialect.objection(&model.config).is_none())
            .ok_or_else(|| refused("no known program has a class for this network".to_string())),
    }
}

impl Dialect {
    /// A torchvision name in this dialect, prefix included.
    fn rename(&self, name: &str) -> Option<String> {
        let (part, suffix) = DIALECTS[0].parse(name)?;
        Some(format!("{}{}", self.prefix(), self.format(part, suffix)?))
    }
}
