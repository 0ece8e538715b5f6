"""GPT-2's tensors under Hugging Face's names, and the settings that make them a plain GPT-2.

Differences between the two layouts: GPT-2's four matrices of a block are (inputs, outputs) there
(`Conv1D`) and (outputs, inputs) here; layers are apart there and stacked here; the vocabulary is
not padded there; the head is tied to wte and not written.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pyllmc.interop.safetensors_file import Floats

WEIGHTS = "model.safetensors"
PREFIX = "transformer."

# Rows of wte beyond V have no place in a GPT2LMHeadModel: a file of their own holds them, unless
# they are all zero.
PADDING = "pyllmc_padding.safetensors"
PADDING_TENSOR = "wte_padding"
MAX_PADDING = 2**16
# Key of the metadata under which a checkpoint's header travels in WEIGHTS, as JSON.
METADATA = "pyllmc"

# What GPT2LMHeadModel computes with these settings is what pyllmc computes; a missing one has the
# first value. (Dropout does nothing when a model is used.)
SETTINGS: dict[str, tuple[object, ...]] = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "tie_word_embeddings": (True,),
    "add_cross_attention": (False,),
    "quantization_config": (None,),
}
# A checkpoint's dimensions under config.json's names.
DIMENSIONS = {
    "max_seq_len": "n_positions",
    "vocab_size": "vocab_size",
    "num_layers": "n_layer",
    "num_heads": "n_head",
    "channels": "n_embd",
}

# llm.c's name → Hugging Face's, in a block with whether it is a Conv1D weight.
_WHOLE = {
    "wte": "wte.weight",
    "wpe": "wpe.weight",
    "lnfw": "ln_f.weight",
    "lnfb": "ln_f.bias",
}
_BLOCK = {
    "ln1w": ("ln_1.weight", False),
    "ln1b": ("ln_1.bias", False),
    "qkvw": ("attn.c_attn.weight", True),
    "qkvb": ("attn.c_attn.bias", False),
    "attprojw": ("attn.c_proj.weight", True),
    "attprojb": ("attn.c_proj.bias", False),
    "ln2w": ("ln_2.weight", False),
    "ln2b": ("ln_2.bias", False),
    "fcw": ("mlp.c_fc.weight", True),
    "fcb": ("mlp.c_fc.bias", False),
    "fcprojw": ("mlp.c_proj.weight", True),
    "fcprojb": ("mlp.c_proj.bias", False),
}


def to_hf(tensors: Mapping[str, Floats]) -> dict[str, Floats]:
    """A checkpoint's 16 tensors, wte without padding, under Hugging Face's names and shapes."""
    named = {PREFIX + theirs: tensors[ours] for ours, theirs in _WHOLE.items()}
    for ours, (theirs, conv1d) in _BLOCK.items():
        for layer, values in enumerate(tensors[ours]):
            named[f"{PREFIX}h.{layer}.{theirs}"] = values.T if conv1d else values
    return named


def from_hf(tensors: Mapping[str, Floats], prefix: str, layers: int) -> dict[str, Floats]:
    """The way back; `prefix` stands before each name."""
    stacked = {ours: tensors[prefix + theirs] for ours, theirs in _WHOLE.items()}
    for ours, (theirs, conv1d) in _BLOCK.items():
        values = [tensors[f"{prefix}h.{layer}.{theirs}"] for layer in range(layers)]
        stacked[ours] = np.stack([v.T if conv1d else v for v in values])
    return stacked


def hf_shapes(config: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Shapes by Hugging Face's names, without a prefix, for a checkpoint's dimensions."""
    C, H = config["channels"], 4 * config["channels"]
    block: dict[str, tuple[int, ...]] = {
        **{f"{norm}.{part}": (C,) for norm in ("ln_1", "ln_2") for part in ("weight", "bias")},
        **{"attn.c_attn.weight": (C, 3 * C), "attn.c_attn.bias": (3 * C,)},
        **{"attn.c_proj.weight": (C, C), "attn.c_proj.bias": (C,)},
        **{"mlp.c_fc.weight": (C, H), "mlp.c_fc.bias": (H,)},
        **{"mlp.c_proj.weight": (H, C), "mlp.c_proj.bias": (C,)},
    }
    return {
        "wte.weight": (config["vocab_size"], C),
        "wpe.weight": (config["max_seq_len"], C),
        **{f"h.{i}.{name}": s for i in range(config["num_layers"]) for name, s in block.items()},
        "ln_f.weight": (C,),
        "ln_f.bias": (C,),
    }
