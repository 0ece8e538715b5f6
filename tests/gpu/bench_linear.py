"""One MLP layer forward and backward on a GPU: its band alone, by our kernels and by the library's
batched calls, against the whole by cuBLAS, called by us or by PyTorch."""

from __future__ import annotations

import json
import statistics

from shapes import LINEAR_BANDWIDTHS, LINEAR_CHANNELS, LINEAR_ROWS, linear_work

from pyllmc._core import Pattern, bench


def main() -> None:
    sizes = f"C={LINEAR_CHANNELS} M={LINEAR_ROWS}"
    for which in ("fc1", "fc2"):
        dense = f"{which} {sizes} bf16 dense"
        runs = [("dense", 0, dense, f"{dense} by torch")]
        for bandwidth in LINEAR_BANDWIDTHS:
            for execution in ("band", "library"):
                name = f"{which} {sizes} bf16 {execution} {bandwidth}"
                runs.append((execution, bandwidth, name, dense))
        for execution, bandwidth, name, against in runs:
            found = bench.linear_cuda(
                M=LINEAR_ROWS,
                channels=LINEAR_CHANNELS,
                hidden=4 * LINEAR_CHANNELS,
                which=which,
                bandwidth=bandwidth,
                execution=execution,
                precision="bf16",
            )
            forward, backward = (
                1e3 * statistics.median(found[part]) for part in ("forward", "backward")
            )
            result = {"name": name, "ms": forward + backward, "forward_ms": forward}
            result |= {"backward_ms": backward, "against": against}
            density = 1.0
            if bandwidth:
                pattern = Pattern.band(4 * LINEAR_CHANNELS, LINEAR_CHANNELS, bandwidth)
                density = pattern.density
            result |= {"density": density, **linear_work(density)}
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
