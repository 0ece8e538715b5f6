"""One MLP layer forward and backward on a GPU: its band alone against the whole by cuBLASLt."""

from __future__ import annotations

import json
import statistics

from shapes import LINEAR_BANDWIDTHS, LINEAR_CHANNELS, LINEAR_ROWS

from pyllmc._core import bench


def main() -> None:
    for which in ("fc1", "fc2"):
        dense = f"{which} C={LINEAR_CHANNELS} M={LINEAR_ROWS} bf16 dense"
        for bandwidth in (0, *LINEAR_BANDWIDTHS):
            found = bench.linear_cuda(LINEAR_ROWS, LINEAR_CHANNELS, which, bandwidth, "bf16", 20)
            forward, backward = (
                1e3 * statistics.median(found[name]) for name in ("forward", "backward")
            )
            name = dense if bandwidth == 0 else dense.replace("dense", f"band {bandwidth}")
            print(
                json.dumps(
                    {"name": name, "ms": forward + backward, "forward_ms": forward,
                     "backward_ms": backward, "density": found["density"],
                     "executed": found["executed"],
                     "against": f"torch {which} C={LINEAR_CHANNELS} M={LINEAR_ROWS} bf16"
                     if bandwidth == 0 else dense}
                ),
                flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
