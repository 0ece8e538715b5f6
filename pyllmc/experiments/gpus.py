"""Slots: room for one cell, on this machine's processors or on one of its GPUs."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from pyllmc.errors import DeviceError, UsageError
from pyllmc.experiments.lock import machine_file


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU as nvidia-smi names it; `uuid` stays the same when devices are hidden."""

    index: int
    uuid: str
    name: str


def find_gpus() -> list[Gpu]:
    """This machine's GPUs, none when there is no driver; those hidden by CUDA_VISIBLE_DEVICES (as a
    batch system does) are left out."""
    query = ["nvidia-smi", "--query-gpu=index,uuid,name", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    gpus = []
    for line in done.stdout.splitlines():
        index, uuid, name = (field.strip() for field in line.split(",", 2))
        gpus.append(Gpu(int(index), uuid, name))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return gpus
    names = [name.strip() for name in visible.split(",")]
    return [gpu for gpu in gpus if str(gpu.index) in names or gpu.uuid in names]


def choose_gpus(choice: str) -> list[Gpu]:
    """The GPUs that `--gpus` asks for: `auto` is all, else numbers as nvidia-smi counts them.

    Raises DeviceError when there is none or not the one asked for, UsageError on other text.
    """
    gpus = find_gpus()
    if choice == "auto":
        if not gpus:
            raise DeviceError(
                "--gpus auto found no NVIDIA GPU (nvidia-smi lists none); leave --gpus out to run "
                "on the processors"
            )
        return gpus
    by_index = {str(gpu.index): gpu for gpu in gpus}
    chosen = [word.strip() for word in choice.split(",")]
    if not all(word.isdecimal() for word in chosen) or len(set(chosen)) != len(chosen):
        raise UsageError(f"--gpus is {choice!r}; it must be auto or numbers like 0,2, each once")
    for word in chosen:
        if word not in by_index:
            there = f"the GPUs are {', '.join(by_index)}" if gpus else "nvidia-smi lists none"
            raise DeviceError(f"--gpus asks for GPU {word}, which is not there: {there}")
    return [by_index[word] for word in chosen]


class Slot:
    """Room for one cell: at most one matrix of this machine uses a GPU's slot at a time."""

    def __init__(self, gpu: Gpu | None = None, number: int = 0) -> None:
        self.gpu = gpu
        self._number = number
        self.descriptor: int | None = None

    def acquire(self) -> bool:
        """Takes the slot; false while another matrix has it."""
        if self.gpu is None:
            return True
        descriptor = machine_file(f"{self.gpu.uuid}.{self._number}")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self.descriptor = descriptor
        return True

    def release(self) -> None:
        """Gives the slot back."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    @property
    def environment(self) -> Mapping[str, str]:
        """What a child needs to see this slot's GPU only."""
        if self.gpu is None:
            return {}
        return {"CUDA_VISIBLE_DEVICES": self.gpu.uuid, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def make_slots(gpus: str | None, jobs: int | None, jobs_per_gpu: int) -> list[Slot]:
    """Slots for `--gpus`, `--jobs` and `--jobs-per-gpu`: `jobs` of them (1) without GPUs, else
    `jobs_per_gpu` on each, GPUs taking turns, and at most `jobs`. Raises as `choose_gpus`."""
    if gpus is None:
        return [Slot() for _ in range(jobs or 1)]
    chosen = choose_gpus(gpus)
    return [Slot(gpu, number) for number in range(jobs_per_gpu) for gpu in chosen][:jobs]
