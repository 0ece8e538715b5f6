"""What this GPU does at best: bytes read and written by a copy, and cuBLASLt's largest product."""

from __future__ import annotations

import json
import statistics

from results import COPY, PRODUCT

from pyllmc._core import bench


def main() -> None:
    count = 1 << 31
    seconds = statistics.median(bench.copy_cuda(count))
    rate = {"rate": 2 * count / seconds, "unit": "bytes/s"}
    print(json.dumps({"name": COPY, "ms": 1e3 * seconds, **rate}), flush=True)
    n = 8192
    times = bench.linear_cuda(M=n, channels=n, hidden=n, repeats=5, calls=5)
    seconds = statistics.median(times["forward"])
    rate = {"rate": 2 * n**3 / seconds, "unit": "FLOP/s"}
    print(json.dumps({"name": PRODUCT, "ms": 1e3 * seconds, **rate}), flush=True)


if __name__ == "__main__":
    main()
