//! `densenet view`: the network in the browser.

mod sample;

use std::{ffi::OsStr, path::PathBuf, time::Duration};

use clap::Args;
use densenet::{Input, Predictor, memory};
use densenet_spec::{Architecture, DenseNetConfig};
use densenet_view::{Document, GraphDocument, Origin, Server, Subject, Timing, page};
use densenet_weights::{InitMode, Model, StateDict, atomic, initialize};

use crate::{
    failure::Failure,
    machine,
    options::{
        config::ConfigOptions,
        model::{self, Source},
        run::RunOptions,
        size::Size,
        usual,
    },
    output,
};
use sample::Sample;

/// Look at a network in the browser: architecture, weights, activations
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub struct View {
    /// A preset's name, a model file or an ONNX file
    #[arg(value_name = "PRESET|MODEL|FILE.onnx")]
    model: String,
    /// Size of the input, like 224, 224x192 or 96x96x64 [default: the image's; 224; 96 in 3-D; 32 for the small stem]
    #[arg(long, value_name = "SIZE", conflicts_with = "image")]
    input: Option<Size>,
    /// Show what the network makes of this image or volume (NIfTI, DICOM, …), or of raw numbers in a .npy file
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Write the page to a file that works offline, or with - to standard output, and end
    #[arg(long, value_name = "FILE.html", conflicts_with_all = ["port", "no_open"])]
    html: Option<PathBuf>,
    /// Port of the loopback address to serve the page on; the next free one where it is taken
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// Don't open the browser
    #[arg(long)]
    no_open: bool,
    /// Don't measure how long each stage takes
    #[arg(long)]
    no_time: bool,
    #[command(flatten)]
    run: RunOptions,
    #[command(flatten)]
    config: ConfigOptions,
}

fn after_help() -> String {
    format!(
        "The page loads nothing from anywhere; the server answers only on this machine. Ctrl-C ends it. A preset has no \
weights: it shows the architecture, and random weights serve to measure time. An ONNX file that is no DenseNet known \
here is shown as a plain graph.

{}
Examples:
  densenet view densenet121
  densenet view densenet121 --dims 3 --num-classes 2
  densenet view model.safetensors --image photo.jpg
  densenet view scans.safetensors --image patient7.nii.gz
  densenet view model.onnx
  densenet view densenet264 --html densenet264.html",
        model::preset_list()
    )
}

/// Time that may go into measuring before the page appears.
const BUDGET: Duration = Duration::from_millis(1500);

/// Multiply-adds of a prediction that takes a few seconds on one core.
const MOST_MACS: u64 = 200_000_000_000;

/// What the command line names.
enum Found {
    Network(Box<Network>),
    Graph(Box<GraphDocument>),
}

/// A network that is shown.
struct Network {
    name: String,
    file: File,
    model: Shown,
}

/// Where it comes from; files by their names.
enum File {
    Preset,
    Model(String),
    Onnx(String),
}

/// With weights or without.
enum Shown {
    Architecture(DenseNetConfig),
    Model(Box<Model>),
}

impl View {
    /// Makes the page, and serves or writes it.
    ///
    /// # Errors
    /// A model, configuration, size or image that cannot be used; a page that cannot be written or served.
    pub fn run(self) -> Result<(), Failure> {
        self.run.prepare()?;
        let page = match self.network()? {
            Found::Network(network) => page::html(&self.document(&network)?),
            Found::Graph(graph) => {
                self.refuse_to_run()?;
                page::graph(&graph)
            }
        };
        if self
            .html
            .as_deref()
            .is_some_and(|path| path.as_os_str() == "-")
        {
            return output::print(&page);
        }
        if let Some(path) = &self.html {
            atomic::write(path, |out| out.write_all(page.as_bytes()))?;
            let size = output::bytes(page.len() as u64);
            output::note(&format!("wrote {}: {size}", path.display()));
            return Ok(());
        }
        self.serve(page)
    }

    fn serve(&self, page: String) -> Result<(), Failure> {
        let server = Server::bind(self.port)?;
        let url = server.url();
        output::note(&format!("{url} shows {} — Ctrl-C ends it", self.model));
        if !self.no_open && open::that_detached(&url).is_err() {
            output::note("no browser could be started: open the address above in one");
        }
        let signal = server.serve(page)?;
        Err(Failure::silent(128 + signal))
    }

    /// A plain graph has its own sizes and no engine to run it.
    fn refuse_to_run(&self) -> Result<(), Failure> {
        let given = [
            ("--input", self.input.is_some()),
            ("--image", self.image.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((option, _)) => Err(Failure::usage(format_args!(
                "{option}: {} is no DenseNet that can be run — leave {option} out to see its graph",
                self.model
            ))),
        }
    }

    fn document(&self, network: &Network) -> Result<Document, Failure> {
        let config = match &network.model {
            Shown::Architecture(config) => config,
            Shown::Model(model) => &model.config,
        };
        let architecture = Architecture::new(config)?;
        let sample = self.sample(network)?;
        let spatial = match (&sample, &self.input) {
            (Some(sample), _) => sample.spatial,
            (None, Some(size)) => size
                .axes(config.spatial_dims, 1)
                .map_err(|what| Failure::usage(format_args!("--input: {what}")))?,
            (None, None) => usual::input(&architecture),
        };
        usual::within_limits(spatial, 1)?;
        let (weights, classes) = match &network.model {
            Shown::Architecture(_) => (None, None),
            Shown::Model(model) => (Some(&model.state), model.classes.as_deref()),
        };
        let mut document = Document::of(&Subject {
            name: &network.name,
            origin: network.origin(),
            architecture: &architecture,
            spatial,
            weights,
            classes,
        })?;
        if sample.is_none() && self.no_time {
            return Ok(document);
        }
        let macs = architecture.trace(spatial)?.macs();
        if sample.is_none() && macs > MOST_MACS {
            output::note(
                "not measured: one prediction would take long; `densenet bench` measures it",
            );
            return Ok(document);
        }
        let run = memory::estimate(&architecture, spatial, 1)?.infer_bytes as u64;
        // What every stage puts out is kept beside the run.
        let needed = if sample.is_some() { 2 * run } else { run };
        let room = machine::require(
            needed,
            &format!("running {}", network.name),
            "give a smaller --input or image",
        );
        match (room, &sample) {
            (Err(failure), Some(_)) => return Err(failure),
            (Err(_), None) => {
                output::note("not measured: there is not enough memory to run this network");
                return Ok(document);
            }
            (Ok(()), _) => {}
        }
        let random;
        let state: &StateDict = match weights {
            Some(state) => state,
            None => {
                let mode = InitMode::default_for(config.spatial_dims);
                random = initialize(&architecture, 0, mode);
                &random
            }
        };
        let predictor = Predictor::new(config, state)?;
        if let Some(sample) = &sample {
            document.with_sample(&predictor, state, &sample.shown(classes))?;
        }
        if !self.no_time {
            let pixels: usize = spatial.iter().product();
            let zeros;
            let data = match &sample {
                Some(sample) => &sample.data,
                None => {
                    zeros = vec![0.0; pixels * config.in_channels];
                    &zeros
                }
            };
            let input = Input {
                data,
                batch: 1,
                spatial,
            };
            let threads = rayon::current_num_threads();
            document.timed(&Timing::measure(&predictor, input, BUDGET, threads)?);
        }
        Ok(document)
    }

    fn network(&self) -> Result<Found, Failure> {
        let path = match Source::find(&self.model)? {
            Source::Preset(preset) => {
                return Ok(Found::Network(Box::new(Network {
                    name: preset.name.to_string(),
                    file: File::Preset,
                    model: Shown::Architecture(self.config.configure(&preset)?),
                })));
            }
            Source::File(path) => path,
        };
        self.config.refuse(&path)?;
        let part = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let (name, file) = (part(path.file_stem()), part(path.file_name()));
        let onnx = path
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("onnx"));
        let (model, file) = if onnx {
            match densenet_onnx::import(&path) {
                Ok(model) => (model, File::Onnx(file)),
                Err(error) => {
                    let graph = densenet_onnx::read_graph(&path)?;
                    let reason = error.problem.to_string();
                    let reason = reason.split(" — ").next().unwrap_or_default();
                    let graph = GraphDocument::of(&file, reason, &graph)?;
                    return Ok(Found::Graph(Box::new(graph)));
                }
            }
        } else {
            (model::load(&path)?, File::Model(file))
        };
        let model = Shown::Model(Box::new(model));
        Ok(Found::Network(Box::new(Network { name, file, model })))
    }

    fn sample(&self, network: &Network) -> Result<Option<Sample>, Failure> {
        let Some(path) = &self.image else {
            return Ok(None);
        };
        match &network.model {
            Shown::Architecture(_) => Err(Failure::usage(format_args!(
                "--image: {} is a preset, which has no weights to run — give a model file",
                network.name
            ))),
            Shown::Model(model) => Sample::read(path, model, &self.model).map(Some),
        }
    }
}

impl Network {
    fn origin(&self) -> Origin<'_> {
        match &self.file {
            File::Preset => Origin::Preset,
            File::Model(file) => Origin::ModelFile(file),
            File::Onnx(file) => Origin::Onnx(file),
        }
    }
}
