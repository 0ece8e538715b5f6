"""Runs of train_banded that are killed and resumed, and what is compared afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from apps.lab import VAL_DATA, Lab

STEPS = 9
# Two shards of 3 and 5 batches: 18 of them go twice over the edge of an epoch, and over shards.
SHARDS = (60, 90)
WORDS = (
    f"-n {STEPS} -k 2 -v 3 -m 2 -s 4 -g 6 -b 2 -t 8 --accumulate 2 -l 3e-3 --warmup 2 --min-lr 1e-4"
    " --grad-clip 0.5 --weight-decay 0.1 -1 24 -2 40 --train-eval-batches 2"
    f" -i part_*.bin --test-data {VAL_DATA} -c ckpt.bin -o log.txt"
).split()
ROOT = "ckpt.state"
# What the clock, the machine and the number of threads decide.
WALL_CLOCK = ("ms", "tokens_per_second", "memory_bytes", "threads")


def prepare(lab: Lab) -> Lab:
    rng = np.random.default_rng(11)
    for i, count in enumerate(SHARDS):
        lab.tokens(f"part_{i}.bin", rng.integers(0, 260, count))
    return lab


def copy_of(lab: Lab, folder: Path) -> Lab:
    """The lab with all its files in another folder."""
    shutil.copytree(lab.folder, folder, symlinks=True)
    return Lab(folder, lab.programs)


def killed_at(
    lab: Lab, point: str, *words: object, times: int = 1
) -> subprocess.CompletedProcess[str]:
    """A run under the fault plan that kills it when it comes to a point for the `times`-th time."""
    plan = os.environ | {"PYLLMC_FAULT": f"kill@{point}:{times}"}
    return lab.train(*WORDS, *words, env=plan)


def finish(lab: Lab, *words: object) -> str:
    """Resumes the run to its end."""
    return lab.trained(*WORDS, *words, "--resume")


def states(lab: Lab) -> list[str]:
    return sorted(path.name for path in (lab.folder / ROOT).glob("step_*"))


def read_state(folder: Path) -> tuple[dict[str, Any], bytes]:
    """(manifest, tensors) of a state whose checksums are right, as a reader apart from the core."""
    text = (folder / "manifest.json").read_bytes()
    manifest = json.loads(text)
    body = text[: text.rindex(b', "crc32": "')]
    assert manifest["crc32"] == f"{zlib.crc32(body):08x}"
    tensors = (folder / "tensors.bin").read_bytes()
    for tensor in manifest["tensors"]:
        part = tensors[tensor["offset"] : tensor["offset"] + tensor["bytes"]]
        assert len(part) == tensor["bytes"]
        assert tensor["crc32"] == f"{zlib.crc32(part):08x}"
    assert sum(tensor["bytes"] for tensor in manifest["tensors"]) == len(tensors)
    return manifest, tensors


def write_state(folder: Path, manifest: dict[str, Any], tensors: bytes) -> None:
    """Writes a state with right checksums, whatever it says."""
    for tensor in manifest.get("tensors", []):
        if {"offset", "bytes", "crc32"} <= tensor.keys():
            part = tensors[tensor["offset"] : tensor["offset"] + tensor["bytes"]]
            tensor["crc32"] = f"{zlib.crc32(part):08x}"
    (folder / "tensors.bin").write_bytes(tensors)
    write_manifest(folder, manifest)


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    body = json.dumps({k: v for k, v in manifest.items() if k != "crc32"})[:-1].encode()
    (folder / "manifest.json").write_bytes(body + b', "crc32": "%08x"}\n' % zlib.crc32(body))


def events(lab: Lab) -> list[dict[str, Any]]:
    """The .jsonl without what tells of the clock and of interruptions."""
    return [
        {key: value for key, value in event.items() if key not in WALL_CLOCK}
        for event in lab.events()
        if event["type"] != "resume"
    ]


def outcome(lab: Lab) -> dict[str, Any]:
    """All that a run leaves: equal for two runs that are the same to the last bit."""
    (before, last) = states(lab)
    found: dict[str, Any] = {"log": (lab.folder / "log.txt").read_text(), "events": events(lab)}
    for name in (before, last):
        manifest, tensors = read_state(lab.folder / ROOT / name)
        del manifest["crc32"], manifest["run"]["log"]
        found[name] = (manifest, hashlib.sha256(tensors).hexdigest())
    found["checkpoint"] = hashlib.sha256((lab.folder / "ckpt.bin").read_bytes()).hexdigest()
    found["files"] = sorted(str(path.relative_to(lab.folder)) for path in lab.folder.rglob("*"))
    return found


def assert_same(lab: Lab, expected: dict[str, Any]) -> None:
    found = outcome(lab)
    for key, value in expected.items():
        assert found[key] == value, key


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every number, string, boolean and null in a JSON value."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, (*path, key))]
    if isinstance(value, list):
        return [leaf for i, item in enumerate(value) for leaf in leaves(item, (*path, i))]
    return [path]


def changed(value: Any) -> Any:
    """Another value of the same kind: nothing, where that is another one."""
    if isinstance(value, bool):
        return not value
    if value is None or value == 0:
        return 1
    return "" if isinstance(value, str) else 0


def edit(manifest: dict[str, Any], path: tuple[Any, ...], act: Callable[[Any, Any], None]) -> None:
    holder: Any = manifest
    for key in path[:-1]:
        holder = holder[key]
    act(holder, path[-1])
