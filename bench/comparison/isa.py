"""Keeping engines to AVX2 on a processor that has more, and saying in the record how.

Some have a switch. ONNX Runtime and the Rust engines have none: they ask the processor, and ask the system through
`xgetbv` whether it saves the wide registers. They run from a copy in which that instruction is replaced by one that
answers "SSE and AVX, nothing wider" (`push 7; pop rax`, which is as long), so that they choose as on a machine without
AVX-512. The copy lies in a temporary folder; what is installed stays as it is.
"""

import shutil
import struct
from importlib.util import find_spec
from pathlib import Path

XGETBV = b"\x0f\x01\xd0"
ANSWER_7 = b"\x6a\x07\x58"
EXECUTABLE = 1

PROMISES = {
    "densenet": "`DENSENET_ISA=avx2`",
    "PyTorch": "`ATEN_CPU_CAPABILITY=avx2`, `ONEDNN_MAX_CPU_ISA=AVX2` and `MKL_ENABLE_INSTRUCTIONS=AVX2`",
    "torch.compile": "the same, and vectors of 256 bits in what it generates",
    "OpenVINO": "`OV_CPU_MAX_ISA=AVX2` and `ONEDNN_MAX_CPU_ISA=AVX2`",
    "ONNX Runtime": "a copy that finds no AVX-512 (it has no switch)",
    "tract": "a copy that finds no AVX-512",
    "rten": "a copy that finds no AVX-512",
    "candle": "a copy that finds no AVX-512",
    "burn": "a copy that finds no AVX-512",
}


def notes(rows):
    """One line for each engine that took part: how it was kept to AVX2, and what it says it ran."""
    found = {}
    for row in rows:
        for name, entry in row["engines"].items():
            found.setdefault(name, {}).update(entry.get("kernels") or {})
    said = {name: f" ({', '.join(kernels)})" if kernels else "" for name, kernels in found.items()}
    return [f"Kept to AVX2: {name} by {how}{said[name]}." for name, how in PROMISES.items() if name in found]


def limit(settings):
    """Makes the copies; workers of engines without a switch run from them."""
    package = Path(find_spec("onnxruntime").origin).parent
    copy = settings.limited / "onnxruntime"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__", "transformers", "quantization", "tools"))
    for library in copy.rglob("*.so*"):
        forget_wide_registers(library)
    if settings.rivals:
        settings.rivals = shutil.copy2(settings.rivals, settings.limited / "rivals")
        forget_wide_registers(Path(settings.rivals))


def forget_wide_registers(path):
    """Replaces `xgetbv` in the code of an ELF file; how often."""
    image = bytearray(path.read_bytes())
    count = 0
    for begin, end in code(image):
        at = image.find(XGETBV, begin, end)
        while at >= 0:
            image[at : at + 3] = ANSWER_7
            count += 1
            at = image.find(XGETBV, at + 3, end)
    path.write_bytes(image)
    return count


def code(image):
    """Where the executable segments of a 64-bit ELF file lie in it."""
    if image[:5] != b"\x7fELF\x02":
        return
    (table,) = struct.unpack_from("<Q", image, 32)
    size, number = struct.unpack_from("<HH", image, 54)
    for index in range(number):
        kind, flags, offset, _, _, length = struct.unpack_from("<IIQQQQ", image, table + index * size)
        if kind == 1 and flags & EXECUTABLE:
            yield offset, offset + length
