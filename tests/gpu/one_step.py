"""One training step of a shape of shapes.py in bf16, for a profiler to watch."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from bench_steps import trainer_of


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        print(trainer_of(Path(name), sys.argv[1], "bf16", (0, 0)).step())


if __name__ == "__main__":
    main()
