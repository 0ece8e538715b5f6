"""llm.c's two precisions: version 3 (fp32) and version 5 (bf16)."""

from __future__ import annotations

from pathlib import Path

from pyllmc import _core


def export_llmc(checkpoint: Path, output: Path, precision: str) -> None:
    """Write a checkpoint's weights and header again in `precision`, "fp32" or "bf16".

    fp32 to bf16 rounds to the nearest, ties to even; every other way keeps all bits. Raises
    FormatError when `checkpoint` is not an llm.c file (other models do not fit that format),
    WriteError when `output` cannot be written.
    """
    header, tensors = _core.read_checkpoint(checkpoint)
    _core.write_checkpoint(output, header | {"precision": precision}, tensors)
