//! The summary as a table.

use std::ops::Range;

use densenet_spec::{Op, StageKind};

use super::{Depth, Facts};
use crate::{
    output::{bytes, grouped, pairs, shape, short},
    table::{Table, wrap},
};

/// One line of the table before it is fitted to the terminal.
struct Row {
    name: String,
    operation: String,
    output: Vec<usize>,
    params: u64,
    macs: u64,
}

impl Facts {
    /// Title, table and totals in at most `width` columns.
    pub fn text(&self, depth: Depth, width: usize) -> String {
        let rows = self.rows(depth);
        let config = self.architecture.config();
        let input = [vec![self.batch], self.input_shape()].concat();
        let output = [self.batch, config.num_classes];
        let title = format!(
            "{} · {}-D · input {} → output {}",
            self.name,
            self.dims(),
            shape(&input),
            shape(&output)
        );
        wrap(&title, width, 2) + "\n" + &fitted(&rows, depth, width) + "\n" + &self.totals(width)
    }

    fn rows(&self, depth: Depth) -> Vec<Row> {
        let architecture = &self.architecture;
        let mut rows = Vec::new();
        for (index, stage) in architecture.stages().iter().enumerate() {
            let output = architecture.stage_output(index);
            let mut name = stage.name.clone();
            if let StageKind::DenseBlock(block) = stage.kind
                && depth == Depth::Stages
            {
                name += &format!(" ×{}", architecture.blocks()[block].layers.len());
            }
            rows.push(self.row(name, stage.layers.clone(), output));
            match stage.kind {
                StageKind::DenseBlock(block) if depth >= Depth::Dense => {
                    let mut start = stage.layers.start;
                    for dense in &architecture.blocks()[block].layers {
                        let prefix = format!("{}.", dense.name);
                        let count = architecture.layers()[start..]
                            .iter()
                            .take_while(|layer| layer.name.starts_with(&prefix))
                            .count();
                        let range = start..start + count;
                        start = range.end;
                        let name = format!("  {}", last_part(&dense.name));
                        rows.push(self.row(name, range.clone(), range.end - 1));
                        if depth == Depth::Layers {
                            self.operations(range, "    ", &mut rows);
                        }
                    }
                }
                _ if depth == Depth::Layers => {
                    self.operations(stage.layers.clone(), "  ", &mut rows);
                }
                _ => {}
            }
        }
        rows
    }

    fn operations(&self, layers: Range<usize>, indent: &str, rows: &mut Vec<Row>) {
        for index in layers {
            let layer = &self.architecture.layers()[index];
            let mut row = self.row(
                format!("{indent}{}", last_part(&layer.name)),
                index..index + 1,
                index,
            );
            row.operation = operation(&layer.op, self.dims());
            rows.push(row);
        }
    }

    /// A row that adds up `layers` and shows the output of the layer `output`.
    fn row(&self, name: String, layers: Range<usize>, output: usize) -> Row {
        Row {
            name,
            operation: String::new(),
            output: self.layer_output(output),
            params: layers.clone().map(|l| self.layer_parameters(l)).sum(),
            macs: layers.map(|l| self.trace.layers[l].macs).sum(),
        }
    }

    fn totals(&self, width: usize) -> String {
        let architecture = &self.architecture;
        let params = architecture.num_parameters() as u64;
        let macs = self.trace.macs();
        let min_input = shape(&architecture.min_input()[3 - self.dims()..]);
        let memory = |n| bytes(n as u64);
        let lines = [
            ("Parameters", grouped(params)),
            ("Multiply-adds", format!("{} a sample", short(macs))),
            ("Smallest input", min_input),
            ("Memory, inference", memory(self.memory.infer_bytes)),
            (
                "Memory, training",
                format!(
                    "{} ({} with --memory-efficient)",
                    memory(self.memory.train_bytes),
                    memory(self.memory.train_memory_efficient_bytes)
                ),
            ),
        ];
        pairs(
            &lines.map(|(label, value)| (label.to_string(), value)),
            width,
        )
    }
}

/// How a table makes itself narrower, one step at a time.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
enum Form {
    /// Full numbers.
    Full,
    /// `7.98 M` instead of `7,978,856`.
    ShortNumbers,
    /// Without the column of operations.
    WithoutOperations,
    /// `block1` instead of `denseblock1`.
    ShortNames,
}

/// The widest form of the table that fits.
fn fitted(rows: &[Row], depth: Depth, width: usize) -> String {
    let forms = [
        Form::Full,
        Form::ShortNumbers,
        Form::WithoutOperations,
        Form::ShortNames,
    ];
    let mut tables = forms.map(|form| build(rows, depth, form)).into_iter();
    let narrowest = forms.len() - 1;
    let fits = tables.position(|table| table.width() <= width);
    build(rows, depth, forms[fits.unwrap_or(narrowest)]).render(width)
}

fn build(rows: &[Row], depth: Depth, form: Form) -> Table {
    let brief = form >= Form::ShortNumbers;
    let operations = depth == Depth::Layers && form < Form::WithoutOperations;
    let mut headings = vec!["Layer", "Output", "Parameters", "MACs"];
    if brief {
        headings[2] = "Params";
    }
    if operations {
        headings.insert(1, "Operation");
    }
    let number = |n| match (n, brief) {
        (0, _) => "—".to_string(),
        (n, true) => short(n),
        (n, false) => grouped(n),
    };
    let mut table = Table::new(&headings);
    for row in rows {
        let mut name = row.name.clone();
        if form >= Form::ShortNames {
            name = name.replace("dense", "").replace("transition", "trans");
        }
        let mut cells = vec![
            name,
            shape(&row.output),
            number(row.params),
            number(row.macs),
        ];
        if operations {
            cells.insert(1, row.operation.clone());
        }
        table.row(cells);
    }
    table
}

/// `Conv 7×7/2`
fn operation(op: &Op, dims: usize) -> String {
    let Some(window) = op.window() else {
        return op.name().to_string();
    };
    let (kernel, stride) = (&window.kernel[3 - dims..], &window.stride[3 - dims..]);
    let stride = match stride {
        _ if stride.iter().all(|&s| s == 1) => String::new(),
        [first, rest @ ..] if rest.iter().all(|s| s == first) => format!("/{first}"),
        _ => format!("/{}", shape(stride)),
    };
    format!("{} {}{stride}", op.name(), shape(kernel))
}

fn last_part(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}
