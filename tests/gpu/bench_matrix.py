"""The ten runs of experiment 9, on random tokens, some at a time on one GPU: JOBS_PER_GPU=5,2,1."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pyllmc.data.token_file import token_file_writer

EXPERIMENT = Path(__file__).resolve().parents[2] / "runs" / "00009-banded-fc-comparison"
VOCAB = 50257
JOBS = os.environ.get("JOBS_PER_GPU", "5,2,1").split(",")


def run_matrix(folder: Path, text: str, jobs: str) -> int:
    folder.mkdir()
    (folder / "matrix.toml").write_text(text)
    command = [sys.executable, "-c", "from pyllmc.cli import main; main()", "matrix", "run"]
    command += [str(folder), "--gpus", "auto", "--jobs-per-gpu", jobs]
    begin = time.perf_counter()
    code = subprocess.run(command).returncode
    seconds = time.perf_counter() - begin
    if code == 0:
        name = f"ten runs of 5,000 steps, {jobs} at a time"
        print(json.dumps({"name": name, "ms": 1e3 * seconds}), flush=True)
    return code


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for split, tokens in (("train", 4_000_000), ("val", 400_000)):
            with token_file_writer(folder / f"random_{split}.bin") as out:
                random = np.random.default_rng(len(split))
                out.append(random.integers(0, VOCAB, tokens, dtype=np.uint16))
        text = (EXPERIMENT / "matrix.toml").read_text()
        text = re.sub(r"data/tinystories/TinyStories_(\w+)\.bin", rf"{folder}/random_\1.bin", text)
        text = re.sub(r"^reference = .*\n", "", text, flags=re.MULTILINE)
        text = text.replace("[train]\n", '[train]\nprecision = "bf16"\n')
        return max(run_matrix(folder / f"matrix-{jobs}", text, jobs) for jobs in JOBS)


if __name__ == "__main__":
    sys.exit(main())
