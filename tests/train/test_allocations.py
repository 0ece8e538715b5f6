"""After the first, a step takes no memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from oracle.inputs import Shape, write_model, write_tokens

# Counts calls and bytes of the allocator's entries, and maps; preloaded into the child.
COUNTER = """
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>
extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void* __libc_memalign(size_t, size_t);
static atomic_long calls, bytes, maps;
static void note(size_t n) { atomic_fetch_add(&calls, 1); atomic_fetch_add(&bytes, (long)n); }
void* malloc(size_t n) { note(n); return __libc_malloc(n); }
void* calloc(size_t n, size_t size) { note(n * size); return __libc_calloc(n, size); }
void* realloc(void* p, size_t n) { note(n); return __libc_realloc(p, n); }
void* aligned_alloc(size_t to, size_t n) { note(n); return __libc_memalign(to, n); }
int posix_memalign(void** p, size_t to, size_t n) {
  note(n);
  *p = __libc_memalign(to, n);
  return *p ? 0 : 12;
}
void* mmap(void* at, size_t n, int prot, int flags, int file, off_t offset) {
  atomic_fetch_add(&maps, 1);
  return (void*)syscall(SYS_mmap, at, n, prot, flags, file, offset);
}
void counted(long* out) {
  out[0] = atomic_exchange(&calls, 0);
  out[1] = atomic_exchange(&bytes, 0);
  out[2] = atomic_exchange(&maps, 0);
}
"""
# Python's own small objects are given their memory in advance: the run's calls come first.
CHILD = """
import ctypes, gc, json, sys
from pyllmc._core import Trainer
settings, count = json.loads(sys.argv[1]), ctypes.CDLL(None).counted
trainer = Trainer(**settings)
numbers = [(ctypes.c_long * 3)() for _ in range(14)]
gc.collect()
gc.disable()
for number in numbers:
    count(number)
    trainer.step()
    count(number)
print(json.dumps([list(number) for number in numbers]))
"""
CASES = {
    "dense": {},
    "band": {"fc1_bandwidth": 40, "fc2_bandwidth": 31, "grad_clip": 0.5},
    "band-first-step-whole": {"fc1_bandwidth": 40, "mask_init": False},
    "mask": {"fc1_bandwidth": 40, "execution": "mask"},
    "bf16": {"precision": "bf16", "fc2_bandwidth": 40},
    "two-threads": {"fc1_bandwidth": 40, "threads": 2},
    "accumulate": {"accumulate": 3},
}


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("g++")
    if sys.platform != "linux" or "musl" in str(sysconfig.get_config_var("SOABI")) or not compiler:
        pytest.skip("counting calls needs a C compiler and glibc")
    folder = tmp_path_factory.mktemp("counter")
    (folder / "counter.c").write_text(COUNTER)
    subprocess.run(
        [compiler, "-x", "c", "-O1", "-shared", "-fPIC", "-o", "counter.so", "counter.c"],
        cwd=folder, check=True, timeout=60,
    )  # fmt: skip
    return folder / "counter.so"


def steps(counter: Path, folder: Path, shape: Shape, case: dict) -> list[list[int]]:
    """[calls, bytes, maps] of each of 14 updates."""
    write_model(folder / "model.bin", shape)
    # Several files, and more than one epoch of 6 batches.
    for chunks in (1, 2, 3):
        tokens = np.random.default_rng(1).integers(0, shape.V, chunks * shape.B * shape.T + 1)
        write_tokens(folder / f"train_{chunks}.bin", tokens)
    settings = {
        "model": str(folder / "model.bin"), "train_data": str(folder / "train_*.bin"),
        "batch_size": shape.B, "sequence_length": shape.T, **case,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(settings)],
        env=os.environ | {"LD_PRELOAD": str(counter)},
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return json.loads(done.stdout)


SHAPES = {
    "small": Shape(B=2, T=24, C=64, L=2, NH=2, V=530, Vp=576, max_T=24),
    "larger": Shape(B=4, T=40, C=96, L=4, NH=2, V=1100, Vp=1152, max_T=40),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", CASES)
def test_a_step_takes_no_memory(case, shape, counter, tmp_path):
    counts = steps(counter, tmp_path, SHAPES[shape], CASES[case])
    # The first update may: it draws the order of the data, and bands are packed after it.
    assert counts[0][0] > 0
    assert counts[1:] == [[0, 0, 0]] * (len(counts) - 1)
