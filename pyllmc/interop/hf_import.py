"""A GPT2LMHeadModel's folder as a checkpoint. Nothing in such a folder is trusted."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from pyllmc import _core
from pyllmc.errors import FormatError
from pyllmc.files import read_json_object
from pyllmc.interop.gpt2_layout import (
    DIMENSIONS,
    MAX_PADDING,
    METADATA,
    PADDING,
    PADDING_TENSOR,
    PREFIX,
    SETTINGS,
    WEIGHTS,
    from_hf,
    hf_shapes,
)
from pyllmc.interop.safetensors_file import Floats, TensorInfo, read_header, read_tensors
from pyllmc.models.shape import padded_vocab

_INDEX = "model.safetensors.index.json"  # of weights in several files
_HEAD = "lm_head.weight"
# Causal masks that old files carry; they hold nothing that was learned.
_BUFFERS = (".attn.bias", ".attn.masked_bias")


def import_hf(folder: Path, output: Path) -> None:
    """Write a GPT2LMHeadModel's folder as an llm.c checkpoint.

    What `export_hf` wrote comes back bit for bit, with step, bandwidths, seeds and the padded
    vocabulary; for other folders Vp is V rounded up to 128. Weights that are all bf16 make a
    version 5 file, others a version 3 file (fp16 is widened, exactly). Raises FormatError when the
    folder holds no plain GPT-2, WriteError when `output` cannot be written.
    """
    config = _read_config(folder / "config.json")
    files = _weight_files(folder)
    infos: dict[str, TensorInfo] = {}
    for file in files:
        found, metadata = read_header(file)
        infos |= found
    for name in [name for name in infos if name.endswith(_BUFFERS)]:
        del infos[name]
    prefix = _check_tensors(folder, config, infos)
    header = config | _carried(files[0], config, metadata.get(METADATA))

    tensors: dict[str, Floats] = {}
    for file in files:
        tensors |= read_tensors(file)
    if _HEAD in infos and tensors[_HEAD].tobytes() != tensors[prefix + "wte.weight"].tobytes():
        raise FormatError(
            f"{folder} has a head ({_HEAD}) that differs from wte: a model with tied embeddings "
            "was expected, pyllmc has no other"
        )
    stacked = from_hf(tensors, prefix, config["num_layers"])
    stacked["wte"] = np.concatenate([stacked["wte"], _padding(folder, header)])
    precision = "bf16" if {info.dtype for info in infos.values()} == {"BF16"} else "fp32"
    _core.write_checkpoint(output, header | {"precision": precision}, stacked)


def _read_config(path: Path) -> dict[str, int]:
    """The checkpoint's dimensions, once the settings are those of a plain GPT-2."""
    config = read_json_object(path)
    if config is None:
        raise FormatError(f"there is no {path}: give the folder of a Hugging Face model")
    for key, allowed in SETTINGS.items():
        value = config.get(key, allowed[0])
        # 1 == True, but not here.
        if not any(type(value) is type(a) and value == a for a in allowed):
            raise FormatError(
                f"{path} has {key} = {value!r}, a plain GPT-2 has {allowed[0]!r}: pyllmc does not "
                "compute such a model"
            )
    for key in DIMENSIONS.values():
        if not _is_count(config.get(key), 2**31) or config[key] == 0:
            raise FormatError(
                f"{path} has {key} = {config.get(key)!r}, expected a whole number from 1 on"
            )
    found = {ours: int(config[theirs]) for ours, theirs in DIMENSIONS.items()}
    C, NH = found["channels"], found["num_heads"]
    if config.get("n_inner") not in (None, 4 * C):
        raise FormatError(
            f"{path} has n_inner = {config['n_inner']!r}, expected 4 n_embd = {4 * C}: llm.c's "
            "format knows no other hidden width"
        )
    if C % NH:
        raise FormatError(
            f"{path} has n_embd = {C} and n_head = {NH}, expected an n_embd that n_head divides"
        )
    return found


def _is_count(value: object, end: int) -> bool:
    return type(value) is int and 0 <= value < end


def _weight_files(folder: Path) -> list[Path]:
    index = read_json_object(folder / _INDEX)
    if index is None:
        pickles = sorted(folder.glob("*.bin"))
        if not (folder / WEIGHTS).exists() and pickles:
            raise FormatError(
                f"{folder} has its weights as a pickle only ({pickles[0].name}), which is not "
                f"read because it may run any program: convert it to {WEIGHTS} first"
            )
        return [folder / WEIGHTS]
    named = index.get("weight_map")
    names = sorted(set(map(str, named.values()))) if isinstance(named, dict) else []
    if not names or any(Path(name).name != name for name in names):
        raise FormatError(f"{folder / _INDEX} names no files of weights in {folder}")
    return [folder / name for name in names]


def _check_tensors(folder: Path, config: dict[str, int], infos: dict[str, TensorInfo]) -> str:
    """Refuse every tensor too many, too few or of another shape; the names' prefix."""
    if config["num_layers"] > len(infos):  # before names are made for all of them
        raise FormatError(
            f"{folder} has {config['num_layers']:,} layers in config.json, but {len(infos):,} "
            "tensors: they do not belong together"
        )
    prefix = PREFIX if PREFIX + "wte.weight" in infos else ""
    expected = {prefix + name: shape for name, shape in hf_shapes(config).items()}
    if _HEAD in infos:
        expected[_HEAD] = expected[prefix + "wte.weight"]
    missing, unknown = expected.keys() - infos.keys(), infos.keys() - expected.keys()
    for names, what in ((missing, "lacks"), (unknown, "has besides a plain GPT-2's")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise FormatError(
                f"{folder} {what} the tensor {min(names)}{more}: those of a GPT2LMHeadModel of "
                "config.json's size were expected"
            )
    for name, shape in expected.items():
        if infos[name].shape != shape or infos[name].dtype not in ("F32", "F16", "BF16"):
            raise FormatError(
                f"{folder} has {name} of shape {infos[name].shape} and type {infos[name].dtype}, "
                f"expected {shape} and F32, F16 or BF16"
            )
    return prefix


def _carried(path: Path, config: dict[str, int], text: str | None) -> dict[str, Any]:
    """The rest of the header of the checkpoint that was exported, from the weights' metadata."""
    V = config["vocab_size"]
    if text is None:
        return {"padded_vocab_size": padded_vocab(V)}
    found: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(text)
    ends = {"padded_vocab_size": 2**31, "step": 2**31}
    if isinstance(found, dict) and found.get("has_meta") is True:
        ends |= {"fc1_bandwidth": 2**31, "fc2_bandwidth": 2**31}
        ends |= {"init_seed": 2**32, "data_seed": 2**32}
    if (
        not isinstance(found, dict)
        or not all(_is_count(found.get(key), end) for key, end in ends.items())
        or not V <= found["padded_vocab_size"] <= V + MAX_PADDING
    ):
        raise FormatError(
            f"{path} has metadata under {METADATA!r} that pyllmc did not write: {text[:200]!r}"
        )
    return {key: found[key] for key in ends} | {"has_meta": "init_seed" in ends}


def _padding(folder: Path, header: dict[str, Any]) -> Floats:
    """Rows V to Vp of wte."""
    shape = (header["padded_vocab_size"] - header["vocab_size"], header["channels"])
    path = folder / PADDING
    if not path.exists():
        return np.zeros(shape, np.float32)
    infos, _ = read_header(path)
    info = infos.get(PADDING_TENSOR)
    if info is None or info.shape != shape or info.dtype not in ("F32", "BF16"):
        raise FormatError(
            f"{path} holds {info or 'something else'}, expected {PADDING_TENSOR} of shape {shape}"
        )
    return read_tensors(path)[PADDING_TENSOR]
