//! `predict --explain`: where an answer comes from, as pictures and volumes.

mod canvas;
mod colours;
mod files;
mod method;
mod photo;
mod planes;

use std::path::{Path, PathBuf};

use clap::Args;
use densenet::{NetworkError, explain::ExplainError};
use densenet_data::{DataError, DecodedImage, Prepared, Space, volume};
use densenet_weights::atomic;
use serde_json::{Value, json};

use super::classify::Classifier;
use crate::commands::panel::Member;
use crate::{
    failure::{BUG, Failure, IO},
    options::{number::positive, size::Size},
};
use colours::Scale;
use method::{Baseline, Method, Plan};

/// Options of explanations.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Explanations")]
pub struct ExplainOptions {
    /// Draw where the answer comes from, into this folder
    #[arg(long, value_name = "DIR")]
    explain: Option<PathBuf>,
    /// How: cam, gradcam, occlusion or integrated-gradients [default: cam]
    #[arg(
        long,
        value_enum,
        value_name = "NAME",
        requires = "explain",
        hide_possible_values = true
    )]
    explain_method: Option<Method>,
    /// Of gradcam: the stage or layer to look at [default: the last dense block but one]
    #[arg(long, value_name = "LAYER", requires = "explain")]
    explain_layer: Option<String>,
    /// The class to explain, by name or number; may be given again [default: the likeliest]
    #[arg(long, value_name = "CLASS", requires = "explain")]
    explain_class: Vec<String>,
    /// Of occlusion: the box that is covered, in the network's pixels [default: a seventh of each side]
    #[arg(long, value_name = "SIZE", requires = "explain")]
    explain_window: Option<Size>,
    /// Of occlusion: from one box to the next [default: half the box, of volumes the whole]
    #[arg(long, value_name = "SIZE", requires = "explain")]
    explain_stride: Option<Size>,
    /// Of occlusion and integrated gradients: what stands for nothing: zero (after normalisation), min or mean of the
    /// image, or a number [default: zero]
    #[arg(
        long,
        value_name = "VALUE",
        requires = "explain",
        allow_negative_numbers = true
    )]
    explain_baseline: Option<Baseline>,
    /// Of integrated gradients: points along the way [default: 50]
    #[arg(long, value_name = "N", requires = "explain", value_parser = positive)]
    explain_steps: Option<usize>,
}

/// Explains answers of one model.
pub struct Explainer<'a> {
    member: &'a Member,
    plan: Plan,
    /// The classes asked for; the likeliest where there are none.
    classes: Vec<usize>,
    names: files::Names,
}

/// What was drawn for one class.
pub struct Explained {
    class: String,
    index: usize,
    method: &'static str,
    layer: Option<String>,
    /// The smallest and the largest value.
    range: [f32; 2],
    files: Vec<PathBuf>,
}

impl ExplainOptions {
    /// Whether explanations are asked for.
    pub fn wanted(&self) -> bool {
        self.explain.is_some()
    }

    /// Checks the options against the model and makes the folder.
    ///
    /// # Errors
    /// An option that the method does not have, an unknown class or layer, a folder that cannot be made.
    pub fn explainer<'a>(
        &self,
        classifier: &'a Classifier,
    ) -> Result<Option<Explainer<'a>>, Failure> {
        let Some(folder) = &self.explain else {
            return Ok(None);
        };
        let member = classifier.first();
        let method = self.explain_method.unwrap_or_default();
        for (option, given, of) in [
            (
                "layer",
                self.explain_layer.is_some(),
                &[Method::Gradcam][..],
            ),
            (
                "window",
                self.explain_window.is_some(),
                &[Method::Occlusion],
            ),
            (
                "stride",
                self.explain_stride.is_some(),
                &[Method::Occlusion],
            ),
            (
                "baseline",
                self.explain_baseline.is_some(),
                &[Method::Occlusion, Method::IntegratedGradients],
            ),
            (
                "steps",
                self.explain_steps.is_some(),
                &[Method::IntegratedGradients],
            ),
        ] {
            if given && !of.contains(&method) {
                let names: Vec<_> = of.iter().map(|m| m.name()).collect();
                return Err(Failure::usage(format_args!(
                    "--explain-{option}: {} has none — leave it out, or give --explain-method {}",
                    method.name(),
                    names.join(" or ")
                )));
            }
        }
        let plan = Plan::new(self, method, member)?;
        let classes = self.explain_class.iter().map(|name| class(member, name));
        let classes = classes.collect::<Result<_, _>>()?;
        std::fs::create_dir_all(folder).map_err(|error| DataError::write(folder, &error))?;
        Ok(Some(Explainer {
            member,
            plan,
            classes,
            names: files::Names::new(folder),
        }))
    }
}

/// The index of a class, by name or number.
fn class(member: &Member, name: &str) -> Result<usize, Failure> {
    let named = member.classes.iter().position(|class| class == name);
    let numbered = || {
        let index = name.parse::<usize>().ok()?;
        (index < member.classes.len()).then_some(index)
    };
    named.or_else(numbered).ok_or_else(|| {
        let names = member.classes.iter().map(String::as_str);
        let likely = densenet_spec::closest(name, names);
        // Every number is close to some other one.
        let hint = match likely.filter(|_| name.parse::<usize>().is_err()) {
            Some(likely) => format!("did you mean {likely}?"),
            None => format!(
                "give a name as in the model file, or a number from 0 to {}",
                member.classes.len().saturating_sub(1)
            ),
        };
        Failure::usage(format_args!(
            "--explain-class {name}: no such class — {hint}"
        ))
    })
}

impl Explainer<'_> {
    /// Draws the maps of one file.
    ///
    /// # Errors
    /// A map that is impossible for this file, or a file that cannot be written.
    pub fn explain(
        &self,
        (path, image, prepared): (&Path, &DecodedImage, &Prepared),
        probabilities: &[f64],
    ) -> Result<Vec<Explained>, Failure> {
        let likeliest = (0..probabilities.len())
            .max_by(|&a, &b| {
                probabilities[a]
                    .total_cmp(&probabilities[b])
                    .then(b.cmp(&a))
            })
            .unwrap_or(0);
        let classes = match self.classes.is_empty() {
            true => &[likeliest][..],
            false => &self.classes,
        };
        let mut explained = Vec::with_capacity(classes.len());
        for &index in classes {
            let map = self.plan.map(self.member, prepared, index);
            let map = map.map_err(|error| failure(path, &error))?;
            let class = &self.member.classes[index];
            let stem = self.names.stem(path, class, self.plan.method().name());
            let sheet = Sheet {
                title: format!("{class}  {:.1} %", 100.0 * probabilities[index]),
                about: format!(
                    "{}  {}",
                    self.plan.about(prepared.spatial),
                    path.file_name()
                        .unwrap_or(path.as_os_str())
                        .to_string_lossy()
                ),
                scale: Scale::of(&map, self.plan.method()),
            };
            let seen = map.resized(prepared.spatial).data;
            let mut files = Vec::new();
            let mut write = |ending: &str, bytes: &[u8]| {
                let path = stem.with_ending(ending);
                let written = atomic::write(&path, |out| out.write_all(bytes));
                files.push(path);
                written.map_err(Failure::from)
            };
            let lost = || {
                Failure::new(
                    BUG,
                    format_args!("{}: the map lost its place — report this", path.display()),
                )
            };
            if let Some(space) = prepared.space {
                let from = volume::Grid {
                    spatial: prepared.spatial,
                    space,
                };
                let own = volume::Grid {
                    spatial: image.spatial(),
                    space: image.space().unwrap_or(Space::UNKNOWN),
                };
                let values = volume::carry(&seen, &from, &own, 0.0).ok_or_else(lost)?;
                let about = format!("densenet: {}, {class}", self.plan.about(prepared.spatial));
                write("nii.gz", &volume::nifti_gz(&values, &own, &about)?)?;
                let picture =
                    planes::draw((image, &own), (&seen, &from), &sheet).ok_or_else(lost)?;
                write("png", &png(&picture)?)?;
            } else {
                let space = self.member.preprocessing.image_space(image.spatial())?;
                let from = volume::Grid {
                    spatial: prepared.spatial,
                    space,
                };
                let picture = photo::draw(image, (&seen, &from), &sheet).ok_or_else(lost)?;
                write("png", &png(&picture)?)?;
            }
            explained.push(Explained {
                class: class.clone(),
                index,
                method: self.plan.method().name(),
                layer: self.plan.layer().map(str::to_string),
                range: map.range(),
                files,
            });
        }
        Ok(explained)
    }
}

/// What stands above and beside the pictures.
struct Sheet {
    title: String,
    about: String,
    scale: Scale,
}

fn png(canvas: &canvas::Canvas) -> Result<Vec<u8>, Failure> {
    canvas
        .png()
        .map_err(|error| Failure::new(IO, format_args!("PNG: {error} — try again, or report this")))
}

/// A map that is impossible for a file, with its exit code.
fn failure(path: &Path, error: &ExplainError) -> Failure {
    let place = path.display();
    match error {
        ExplainError::Network(NetworkError::Config(error)) => Failure::usage(format_args!(
            "{place}: {} = {} — {}",
            error.field, error.value, error.reason
        )),
        ExplainError::Window { spatial, .. } => Failure::usage(format_args!(
            "{place}: {error} — give an --explain-window of at most {spatial:?}"
        )),
        error => Failure::new(error.exit_code(), format_args!("{place}: {error}")),
    }
}

impl Explained {
    /// `{class, index, method, layer?, low, high, files}`
    pub fn json(&self) -> Value {
        let files: Vec<_> = self.files.iter().map(|f| f.to_string_lossy()).collect();
        let mut row = json!({
            "class": self.class,
            "index": self.index,
            "method": self.method,
            "low": self.range[0],
            "high": self.range[1],
            "files": files,
        });
        if let Some(layer) = &self.layer {
            row["layer"] = layer.as_str().into();
        }
        row
    }
}
