//! The Python names a weights file may mention. Everything else is refused.

use crate::dtype::DType;

/// What an allowed name stands for here. None of them runs any code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    /// A dict.
    OrderedDict,
    /// A view of a storage: storage, offset, size, stride.
    RebuildTensor,
    /// A parameter: its tensor.
    RebuildParameter,
    /// The type of a storage's elements.
    Storage(DType),
    /// A tuple of sizes.
    Size,
    /// Its result accompanies weights and is never looked at.
    Opaque,
}

/// Names with their meaning; storages are matched by their own rule.
const ALLOWED: &[(&str, &str, Global)] = &[
    ("collections", "OrderedDict", Global::OrderedDict),
    ("torch._utils", "_rebuild_tensor_v2", Global::RebuildTensor),
    ("torch._utils", "_rebuild_tensor", Global::RebuildTensor),
    (
        "torch._utils",
        "_rebuild_parameter",
        Global::RebuildParameter,
    ),
    ("torch", "Size", Global::Size),
    // Companions of checkpoints: devices, element types, milestones of schedules, bytes and sets.
    ("torch", "device", Global::Opaque),
    ("torch", "float16", Global::Opaque),
    ("torch", "bfloat16", Global::Opaque),
    ("torch", "float32", Global::Opaque),
    ("torch", "float64", Global::Opaque),
    ("torch", "int64", Global::Opaque),
    ("torch.serialization", "_get_layout", Global::Opaque),
    ("collections", "Counter", Global::Opaque),
    ("_codecs", "encode", Global::Opaque),
    ("builtins", "set", Global::Opaque),
    ("__builtin__", "set", Global::Opaque),
];

impl Global {
    /// The meaning of `module.name`, if it is allowed.
    pub(super) fn find(module: &str, name: &str) -> Option<Self> {
        if matches!(module, "torch" | "torch.cuda")
            && let Some(dtype) = DType::from_storage(name)
        {
            return Some(Global::Storage(dtype));
        }
        ALLOWED
            .iter()
            .find(|row| row.0 == module && row.1 == name)
            .map(|row| row.2)
    }
}
