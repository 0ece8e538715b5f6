"""Our training step on a GPU, as Trainer.step() does it: the host's part and the wait included."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import numpy as np
from shapes import SHAPES, step_work, timed

from pyllmc import _core
from pyllmc.data.token_file import token_file_writer

# Name of the result, shape, precision, bandwidths of FC1 and FC2, PyTorch's results of that kind.
# Those with a target first: the part's time is limited.
RUNS = [
    (
        f"step {shape} {precision}{band}",
        shape,
        precision,
        widths,
        f"torch {shape} {against} " if against else "",
    )
    for shape, precision, band, widths, against in [
        ("C=128 L=4 B=16 T=256", "bf16", "", (0, 0), "bf16"),
        ("C=512 L=8 B=16 T=512", "bf16", "", (0, 0), "bf16"),
        ("C=768 L=12 B=32 T=1024", "bf16", "", (0, 0), "bf16"),
        ("C=512 L=8 B=16 T=512", "bf16", " band 512", (512, 512), ""),
        ("C=128 L=4 B=16 T=256", "bf16", " band 256", (256, 256), ""),
        ("C=128 L=4 B=16 T=256", "tf32", "", (0, 0), "tf32"),
        ("C=128 L=4 B=16 T=256", "fp32", "", (0, 0), ""),
    ]
]


def trainer_of(folder: Path, shape: str, precision: str, widths: tuple[int, int]) -> _core.Trainer:
    """A trainer of random tokens; its files are made in the folder."""
    channels, layers, heads, vocab, B, T = SHAPES[shape]
    model, tokens = folder / f"{channels}.bin", folder / "train.bin"
    if not model.exists():
        _core.init_checkpoint(str(model), channels, layers, heads, T, vocab)
    with token_file_writer(tokens) as out:
        random = np.random.default_rng(0)
        out.append(random.integers(0, vocab, 40 * B * T + 1, dtype=np.uint16))
    return _core.Trainer(
        str(model),
        str(tokens),
        batch_size=B,
        sequence_length=T,
        fc1_bandwidth=widths[0],
        fc2_bandwidth=widths[1],
        precision=precision,
        device="cuda",
        threads=4,
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        for label, shape, precision, widths, against in RUNS:
            begin = time.perf_counter()
            trainer = trainer_of(Path(name), shape, precision, widths)
            first = trainer.step()
            ready = time.perf_counter() - begin
            result = {"name": label, **timed(trainer.step, 2.0), "against": against}
            tokens = SHAPES[shape][4] * SHAPES[shape][5]
            result |= {"start_seconds": ready, "first_loss": first["loss"]}
            result |= {"tokens_per_second": 1e3 * tokens / result["ms"]}
            if precision == "bf16" and not any(widths):
                result |= step_work(shape)
            print(json.dumps(result), flush=True)
            del trainer


if __name__ == "__main__":
    main()
