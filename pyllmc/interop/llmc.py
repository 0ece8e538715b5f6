"""llm.c's two precisions: version 3 (fp32) and version 5 (bf16)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyllmc import _core
from pyllmc.errors import FormatError


def export_llmc(checkpoint: Path, output: Path, precision: str) -> None:
    """Write a checkpoint's weights and header again in `precision`, "fp32" or "bf16".

    fp32 to bf16 rounds to the nearest, ties to even; every other way keeps all bits. Raises
    FormatError when `checkpoint` is not a plain GPT-2's, WriteError when `output` cannot be
    written.
    """
    header = plain_header(checkpoint)
    _, tensors = _core.read_checkpoint(checkpoint)
    _core.write_checkpoint(output, header | {"precision": precision}, tensors)


def plain_header(checkpoint: Path) -> dict[str, Any]:
    """The header, as `_core.read_checkpoint_header` gives it, of a model that llm.c's format holds.

    Raises FormatError for a file that is no model, and for a model whose weights or record other
    programs would read as something else.
    """
    model = _core.read_model_header(checkpoint)
    if model["llmc"]:
        header: dict[str, Any] = _core.read_checkpoint_header(checkpoint)
        return header
    C, H = model["channels"], model["hidden"]
    odd = {
        f"its MLP is {H} wide, not 4 C = {4 * C}": H != 4 * C,
        f"its MLP has rank {model['mlp_rank']}": model["mlp_rank"] > 0,
        f"its pattern is {model['pattern']}": model["pattern"] != "band",
        "its bandwidths differ by layer": any(
            len(set(model[key])) > 1 for key in ("fc1_bandwidth", "fc2_bandwidth")
        ),
    }
    reasons = ", ".join(reason for reason, holds in odd.items() if holds) or "as its file says"
    raise FormatError(
        f"{checkpoint} is not a plain GPT-2 ({reasons}), the only model that other programs' "
        "formats can say: it stays in pyllmc's own format"
    )
