"""What `--avx2` can promise of each engine, said in the record."""

PROMISES = {
    "densenet": "`DENSENET_ISA=avx2`",
    "PyTorch": "`ATEN_CPU_CAPABILITY=avx2` and `ONEDNN_MAX_CPU_ISA=AVX2`",
    "torch.compile": "the same, and vectors of 256 bits in what it generates",
}


def notes(rows):
    """One line for each engine that took part: how it was kept to AVX2."""
    names = {name for row in rows for name in row["engines"]}
    return [f"Kept to AVX2: {name} by {how}." for name, how in PROMISES.items() if name in names]
