"""What this machine can do at best, measured in the same run as the figures held against it."""

from __future__ import annotations

import os
import platform
import statistics
from datetime import UTC, datetime
from typing import Any

# Beyond any cache.
_BYTES = 256 << 20
_SECONDS = 0.1


class Peak:
    """Multiply-adds in registers and memory bandwidth with `threads` threads.

    Each `sample` measures all of them once; the properties are medians over the samples.
    """

    def __init__(self, threads: int, precisions: tuple[str, ...] = ("fp32",)) -> None:
        self.threads = threads
        self.isa: dict[str, str] = {}
        self._flops: dict[str, list[float]] = {precision: [] for precision in precisions}
        self._copy: list[float] = []
        self._read: list[float] = []

    def sample(self) -> None:
        """Measure once more, in about half a second."""
        from pyllmc._core import bench

        for precision, rates in self._flops.items():
            result = bench.fma_peak(self.threads, _SECONDS, precision)
            rates.append(1e9 * result["gflops"])
            self.isa[precision] = result["isa"]
        self._copy.append(_rate(bench.copy_bandwidth(self.threads, _BYTES)))
        self._read.append(_rate(bench.read_bandwidth(self.threads, _BYTES)))

    def flops(self, precision: str) -> float:
        """Floating-point operations a second of the instructions that our products use."""
        return statistics.median(self._flops[precision])

    @property
    def copy(self) -> float:
        """Bytes a second read plus written by a copy."""
        return statistics.median(self._copy)

    @property
    def read(self) -> float:
        """Bytes a second read."""
        return statistics.median(self._read)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "threads": self.threads,
            "gflop_per_second": {p: self.flops(p) / 1e9 for p in self._flops},
            "isa": self.isa,
            "copy_gb_per_second": self.copy / 1e9,
            "read_gb_per_second": self.read / 1e9,
        }


def _rate(result: dict[str, Any]) -> float:
    return result["bytes"] / statistics.median(result["seconds"])


def all_threads(threads: int) -> int:
    """`threads`, or for 0 one for each processor that this process may use."""
    return threads or len(os.sched_getaffinity(0))


def identity() -> dict[str, Any]:
    """When, on what and with which code something was measured."""
    from pyllmc.experiments.provenance import provenance
    from pyllmc.programs import train_banded_path

    facts = provenance(str(train_banded_path()), None)
    # Without the kernel's build, a name that says nothing about speed.
    system = " ".join((platform.system(), platform.machine(), *platform.libc_ver()))
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": facts["git"]["commit"],
        "uncommitted_changes": facts["git"]["dirty"],
        "program_sha256": facts["program_sha256"],
        "processor": facts["device"]["processor"],
        "processors": facts["device"]["cores"],
        "memory_bytes": facts["device"]["memory_bytes"],
        "versions": facts["versions"] | {"system": system},
    }
