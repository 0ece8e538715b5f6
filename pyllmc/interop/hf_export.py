"""A checkpoint as a folder that Hugging Face's transformers loads as GPT2LMHeadModel."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pyllmc import _core
from pyllmc.errors import UsageError, WriteError
from pyllmc.files import atomic_write, sync_folder
from pyllmc.interop.gpt2_layout import (
    DIMENSIONS,
    MAX_PADDING,
    METADATA,
    PADDING,
    PADDING_TENSOR,
    SETTINGS,
    WEIGHTS,
    to_hf,
)
from pyllmc.interop.hf_tokenizer import TokenizerFiles
from pyllmc.interop.llmc import plain_header
from pyllmc.interop.safetensors_file import write_safetensors


def export_hf(checkpoint: Path, folder: Path, tokenizer: TokenizerFiles | None) -> None:
    """Write the model of an llm.c checkpoint as a folder for transformers.

    A bf16 checkpoint is written in bf16. The checkpoint's header goes into the weights' metadata,
    so that `import_hf` gives the same file back. `folder` must not hold anything yet; it appears
    complete or not at all. Raises FormatError when the checkpoint is not a plain GPT-2's,
    UsageError when the tokenizer or the folder does not fit, WriteError when nothing can be
    written.
    """
    header = plain_header(checkpoint)
    V, Vp = header["vocab_size"], header["padded_vocab_size"]
    if tokenizer is not None and tokenizer.vocab_size != V:
        raise UsageError(
            f"the tokenizer has {tokenizer.vocab_size:,} tokens and the model {V:,}: name the "
            "model's own with --tokenizer, or none"
        )
    if Vp - V > MAX_PADDING:
        raise UsageError(
            f"{checkpoint} pads its vocabulary of {V:,} to {Vp:,}: at most {MAX_PADDING:,} rows "
            "more were expected"
        )
    bf16 = header["precision"] == "bf16"
    with _new_folder(folder) as new:
        _, tensors = _core.read_checkpoint(checkpoint)
        padding = tensors["wte"][V:]
        tensors["wte"] = tensors["wte"][:V]
        metadata = {"format": "pt", METADATA: json.dumps(header)}
        write_safetensors(new / WEIGHTS, to_hf(tensors), metadata, bf16=bf16)
        if padding.view(np.uint32).any():
            write_safetensors(new / PADDING, {PADDING_TENSOR: padding}, {}, bf16=bf16)
        eot = tokenizer.eot if tokenizer else None
        _write_json(new / "config.json", _config(header, eot))
        generation = {"_from_model_config": True, "bos_token_id": eot, "eos_token_id": eot}
        _write_json(new / "generation_config.json", generation)
        if tokenizer is not None:
            for name, text in tokenizer.files(header["max_seq_len"]).items():
                atomic_write(new / name, text)


def _config(header: dict[str, Any], eot: int | None) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        **{theirs: header[ours] for ours, theirs in DIMENSIONS.items()},
        "n_ctx": header["max_seq_len"],
        "n_inner": None,
        **{key: values[0] for key, values in SETTINGS.items() if values[0] is not None},
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "initializer_range": 0.02,
        "bos_token_id": eot,
        "eos_token_id": eot,
        "dtype": {"fp32": "float32", "bf16": "bfloat16"}[header["precision"]],
        "use_cache": True,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    atomic_write(path, json.dumps(content, indent=2) + "\n")


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A temporary sibling that takes the folder's name when the block succeeds."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not an empty folder: name a new one")
    new = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        try:
            new.mkdir(parents=True)
        except OSError as error:
            raise WriteError(f"could not make {folder}: {error.strerror}") from error
        yield new
        try:
            sync_folder(new)
            os.replace(new, folder)
            sync_folder(folder.parent)
        except OSError as error:
            raise WriteError(f"could not write {folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
