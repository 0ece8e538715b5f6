"""Checkpoints to export, and GPT-2 in NumPy on the tensors of a GPT2LMHeadModel's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from oracle import attention, gelu, layernorm
from oracle.gpt2 import random_parameters
from safetensors.numpy import load_file, save_file

from pyllmc import _core

KEYS = ("max_seq_len", "vocab_size", "num_layers", "num_heads", "channels", "padded_vocab_size")
META = {
    "step": 1234,
    "has_meta": True,
    "fc1_bandwidth": 256,
    "fc2_bandwidth": 0,
    "init_seed": 2**32 - 1,
    "data_seed": 42,
}


def make_checkpoint(
    path: Path, V: int = 90, Vp: int = 128, zero_padding: bool = True, **header: Any
) -> Path:
    """A random model of C = 12, L = 2, NH = 3, maxT = 9."""
    sizes = dict(zip(KEYS, (9, V, 2, 3, 12, Vp), strict=True))
    tensors = random_parameters(C=12, L=2, maxT=9, Vp=Vp, seed=V)
    if zero_padding:
        tensors["wte"][V:] = 0
    _core.write_checkpoint(path, sizes | header, tensors)
    return path


def numpy_logits(folder: Path, tokens: np.ndarray) -> np.ndarray:
    """(T,) ids -> (T, V), in float64, as GPT2LMHeadModel computes: x W + b with W (in, out)."""
    config = json.loads((folder / "config.json").read_text())
    w = {name: x.astype(np.float64) for name, x in load_file(folder / "model.safetensors").items()}

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return layernorm.forward(x, w[f"{name}.weight"], w[f"{name}.bias"])[0]

    def conv1d(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    x = (w["transformer.wte.weight"][tokens] + w["transformer.wpe.weight"][: len(tokens)])[None]
    for layer in range(config["n_layer"]):
        block = f"transformer.h.{layer}"
        qkv = conv1d(norm(x, f"{block}.ln_1"), f"{block}.attn.c_attn")
        x = x + conv1d(attention.forward(qkv, config["n_head"])[0], f"{block}.attn.c_proj")
        hidden = gelu.forward(conv1d(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc"))
        x = x + conv1d(hidden, f"{block}.mlp.c_proj")
    return (norm(x, "transformer.ln_f") @ w["transformer.wte.weight"].T)[0]


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(folder: Path, change: Any) -> None:
    """Rewrites the weights, without metadata, after change(dict) has worked on them."""
    tensors = dict(load_file(folder / "model.safetensors"))
    change(tensors)
    tensors = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
    save_file(tensors, folder / "model.safetensors")
