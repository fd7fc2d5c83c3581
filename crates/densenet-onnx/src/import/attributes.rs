//! A node's attributes and the errors that name it.

use densenet_spec::Window;

use crate::{
    error::{OnnxError, Problem, printable},
    proto::{AttributeProto, NodeProto},
};

/// Refuses `node`, by its name or else its first output.
pub(super) fn refuse(node: &NodeProto, what: impl Into<String>) -> OnnxError {
    let name = match node.name() {
        "" => node.output.first().map_or("", String::as_str),
        name => name,
    };
    Problem::Unrecognised {
        node: printable(name),
        op_type: printable(node.op_type()),
        what: what.into(),
    }
    .into()
}

/// Looks attributes up by name.
#[derive(Clone, Copy)]
pub(super) struct Attributes<'a>(pub &'a NodeProto);

impl<'a> Attributes<'a> {
    pub(super) fn get(self, name: &str) -> Option<&'a AttributeProto> {
        self.0
            .attribute
            .iter()
            .find(|attribute| attribute.name() == name)
    }

    pub(super) fn int(self, name: &str, otherwise: i64) -> i64 {
        self.get(name).map_or(otherwise, |attribute| attribute.i())
    }

    pub(super) fn float(self, name: &str, otherwise: f32) -> f32 {
        self.get(name).map_or(otherwise, |attribute| attribute.f())
    }

    pub(super) fn ints(self, name: &str) -> Option<&'a [i64]> {
        self.get(name).map(|attribute| attribute.ints.as_slice())
    }

    /// Refuses the node unless the attribute has its only value that a DenseNet knows.
    pub(super) fn must_be(self, name: &str, otherwise: i64, value: i64) -> Result<(), OnnxError> {
        match self.int(name, otherwise) {
            found if found == value => Ok(()),
            found => Err(refuse(
                self.0,
                format!("its {name} is {found} where {value} is needed"),
            )),
        }
    }

    /// The same for real numbers.
    pub(super) fn must_be_one(self, name: &str) -> Result<(), OnnxError> {
        match self.float(name, 1.0) {
            1.0 => Ok(()),
            found => Err(refuse(
                self.0,
                format!("its {name} is {found} where 1 is needed"),
            )),
        }
    }

    /// The window of a convolution or pooling whose kernel is `kernel`, if its `kernel_shape` does not say.
    pub(super) fn window(self, kernel: Option<&[i64]>) -> Result<Window, OnnxError> {
        let node = self.0;
        let kernel = self.ints("kernel_shape").or(kernel).unwrap_or_default();
        let axes = kernel.len();
        if axes != 2 && axes != 3 {
            return Err(refuse(
                node,
                format!("its kernel has {axes} axes where 2 or 3 are needed"),
            ));
        }
        let automatic = self
            .get("auto_pad")
            .map_or(&b"NOTSET"[..], |attribute| attribute.s());
        // Without padding, `VALID` says the same as no word at all.
        if !matches!(automatic, b"" | b"NOTSET" | b"VALID") {
            return Err(refuse(node, "its padding depends on the input (auto_pad)"));
        }
        if self
            .ints("dilations")
            .is_some_and(|sizes| sizes.iter().any(|&size| size != 1))
        {
            return Err(refuse(node, "its kernel is dilated"));
        }
        let strides = self.ints("strides").unwrap_or_default();
        let pads = self.ints("pads").unwrap_or_default();
        let (before, behind) = pads.split_at(pads.len() / 2);
        if before != behind {
            return Err(refuse(node, "its padding differs before and behind"));
        }
        let sizes = |sizes: &[i64], otherwise: usize| {
            if sizes.is_empty() {
                return Some([if axes == 3 { otherwise } else { 1 }, otherwise, otherwise]);
            }
            let small = |&size: &i64| u8::try_from(size).ok().map(usize::from);
            let sizes: Vec<usize> = sizes.iter().map(small).collect::<Option<_>>()?;
            match sizes[..] {
                [height, width] if axes == 2 => Some([1, height, width]),
                [depth, height, width] if axes == 3 => Some([depth, height, width]),
                _ => None,
            }
        };
        let window = (|| {
            let mut padding = sizes(before, 0)?;
            if axes == 2 {
                padding[0] = 0;
            }
            Some(Window {
                kernel: sizes(kernel, 1)?,
                stride: sizes(strides, 1)?,
                padding,
            })
        })();
        window.ok_or_else(|| refuse(node, "its kernel, strides and pads do not go together"))
    }
}
