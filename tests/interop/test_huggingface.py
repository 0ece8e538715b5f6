"""Hugging Face folders: the same logits there, the same file back, anything else refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from formats import model_files
from formats.llmc_files import SMALL
from interop.hf_models import META, edit_config, edit_tensors, make_checkpoint, numpy_logits
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from pyllmc import _core, cli
from pyllmc.errors import FormatError, UsageError, WriteError
from pyllmc.interop.hf_export import export_hf
from pyllmc.interop.hf_import import import_hf
from pyllmc.interop.hf_tokenizer import TokenizerFiles
from pyllmc.interop.llmc import export_llmc

TOKENS = np.array([3, 1, 89, 0, 7, 7, 42], np.int32)
SIZES = [(90, 128), (128, 128), (90, 90)]
ADVICE = "needs both: pip install torch transformers"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "model.bin", **META)


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    export_hf(model, tmp_path / "hf", None)
    return tmp_path / "hf"


@pytest.mark.parametrize(("V", "Vp"), SIZES)
def test_exported_tensors_give_the_same_logits_in_numpy(V: int, Vp: int, tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path / "model.bin", V, Vp)
    export_hf(model, tmp_path / "hf", None)
    expected = _core.Model(str(model)).logits(TOKENS)
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(numpy_logits(tmp_path / "hf", TOKENS), expected, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("V", "Vp"), SIZES)
def test_transformers_loads_it_with_the_same_logits(
    V: int, Vp: int, precision: str, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch", reason=ADVICE)
    transformers = pytest.importorskip("transformers", reason=ADVICE)
    model = make_checkpoint(tmp_path / "model.bin", V, Vp, precision=precision)
    export_hf(model, tmp_path / "hf", None)
    theirs, report = transformers.GPT2LMHeadModel.from_pretrained(
        tmp_path / "hf", output_loading_info=True
    )
    assert not any(report.values()), report
    assert theirs.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    with torch.no_grad():
        logits = theirs.float()(torch.tensor(TOKENS[None], dtype=torch.long)).logits[0].numpy()
    np.testing.assert_allclose(logits, _core.Model(str(model)).logits(TOKENS), atol=1e-4)


def test_what_transformers_saves_again_is_imported(folder: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason=ADVICE)
    pytest.importorskip("torch", reason=ADVICE)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(folder)
    theirs.save_pretrained(tmp_path / "again")
    import_hf(tmp_path / "again", tmp_path / "again.bin")
    header, tensors = _core.read_checkpoint(tmp_path / "again.bin")
    assert (header["padded_vocab_size"], header["has_meta"]) == (128, False)
    expected = _core.read_checkpoint(tmp_path / "model.bin")[1]
    assert all(tensors[name].tobytes() == expected[name].tobytes() for name in expected)


@pytest.mark.parametrize("header", [{}, {"step": 5}, META], ids=["plain", "step", "meta"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("V", "Vp"), [*SIZES, (90, 1000)])
def test_export_and_import_give_the_file_back(
    V: int, Vp: int, precision: str, header: dict[str, Any], tmp_path: Path
) -> None:
    model = make_checkpoint(tmp_path / "model.bin", V, Vp, precision=precision, **header)
    export_hf(model, tmp_path / "hf", None)
    import_hf(tmp_path / "hf", tmp_path / "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == model.read_bytes()
    assert len(list((tmp_path / "hf").iterdir())) == 3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_padded_rows_that_are_not_zero_come_back_too(precision: str, tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path / "model.bin", zero_padding=False, precision=precision)
    export_hf(model, tmp_path / "hf", None)
    weights = tmp_path / "hf" / "model.safetensors"
    with safe_open(weights, "numpy") as file:
        assert file.get_slice("transformer.wte.weight").get_shape() == [90, 12]
    import_hf(tmp_path / "hf", tmp_path / "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == model.read_bytes()


def test_odd_values_come_back(tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path / "model.bin")
    header, tensors = _core.read_checkpoint(model)
    odd = np.array([0x7F800001, 0xFFC12345, 0x7F800000, 0x80000000, 1], np.uint32)
    tensors["fcw"][1, 0, :5] = odd.view(np.float32)
    tensors["wte"][:1, :5] = odd.view(np.float32)
    _core.write_checkpoint(model, header, tensors)
    export_hf(model, tmp_path / "hf", None)
    import_hf(tmp_path / "hf", tmp_path / "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == model.read_bytes()


def test_the_folder_holds_what_it_should_and_the_head_once(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]
    with safe_open(folder / "model.safetensors", "numpy") as file:
        names, metadata = set(file.keys()), file.metadata()
    assert len(names) == 4 + 2 * 12
    assert "lm_head.weight" not in names
    assert metadata["format"] == "pt"
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "gpt2"
    assert config["architectures"] == ["GPT2LMHeadModel"]
    assert [config[k] for k in ("n_positions", "vocab_size", "n_layer", "n_head", "n_embd")] == [
        *(9, 90, 2, 3, 12)
    ]
    assert config["eos_token_id"] is None


def test_names_without_prefix_and_old_buffers_are_understood(folder: Path, tmp_path: Path) -> None:
    def as_published(tensors: dict[str, Any]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        for layer in range(2):
            tensors[f"h.{layer}.attn.bias"] = np.tril(np.ones((1, 1, 9, 9), np.uint8))
            tensors[f"h.{layer}.attn.masked_bias"] = np.float32(-1e4)
        tensors["lm_head.weight"] = tensors["wte.weight"]

    edit_tensors(folder, as_published)
    import_hf(folder, tmp_path / "back.bin")
    header, tensors = _core.read_checkpoint(tmp_path / "back.bin")
    expected = _core.read_checkpoint(tmp_path / "model.bin")[1]
    assert all(tensors[name].tobytes() == expected[name].tobytes() for name in expected)
    assert (header["has_meta"], header["padded_vocab_size"]) == (False, 128)


def test_weights_in_several_files_are_put_together(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    parts = {f"model-{i}.safetensors": dict(list(tensors.items())[i::2]) for i in range(2)}
    for name, part in parts.items():
        save_file(part, folder / name)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {tensor: name for name, part in parts.items() for tensor in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    import_hf(folder, tmp_path / "back.bin")
    expected = _core.read_checkpoint(tmp_path / "model.bin")[1]
    found = _core.read_checkpoint(tmp_path / "back.bin")[1]
    assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)


def test_fp16_weights_are_widened(folder: Path, tmp_path: Path) -> None:
    half = {n: v.astype(np.float16) for n, v in load_file(folder / "model.safetensors").items()}
    save_file(half, folder / "model.safetensors")
    import_hf(folder, tmp_path / "back.bin")
    header, tensors = _core.read_checkpoint(tmp_path / "back.bin")
    assert header["precision"] == "fp32"
    np.testing.assert_array_equal(
        tensors["fcw"][1], half["transformer.h.1.mlp.c_fc.weight"].T.astype(np.float32)
    )


CONFIGS = {
    "family": ({"model_type": "llama"}, "model_type = 'llama'"),
    "activation": ({"activation_function": "relu"}, "activation_function = 'relu'"),
    "epsilon": ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon = 1e-06"),
    "attention scale": ({"scale_attn_weights": False}, "scale_attn_weights = False"),
    "layer scale": (
        {"scale_attn_by_inverse_layer_idx": True},
        "scale_attn_by_inverse_layer_idx = True",
    ),
    "untied": ({"tie_word_embeddings": False}, "tie_word_embeddings = False"),
    "one is not true": ({"tie_word_embeddings": 1}, "tie_word_embeddings = 1"),
    "cross attention": ({"add_cross_attention": True}, "add_cross_attention"),
    "quantized": ({"quantization_config": {"bits": 4}}, "quantization_config"),
    "hidden width": ({"n_inner": 24}, "n_inner = 24"),
    "heads": ({"n_head": 5}, "n_head = 5"),
    "no layers": ({"n_layer": 0}, "n_layer = 0"),
    "layers": ({"n_layer": 3}, "lacks the tensor transformer.h.2.attn.c_attn.bias and 11 more"),
    "many layers": ({"n_layer": 2**31 - 1}, "2,147,483,647 layers"),
    "too many layers": ({"n_layer": 2**31}, "n_layer = 2147483648"),
    "a word": ({"n_embd": "12"}, "n_embd = '12'"),
    "a truth": ({"n_layer": True}, "n_layer = True"),
    "vocabulary": ({"vocab_size": 91}, "wte.weight of shape (90, 12)"),
    "positions": ({"n_positions": 2**31 - 1}, "wpe.weight of shape (9, 12)"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_config_of_another_model_is_refused(case: str, folder: Path, tmp_path: Path) -> None:
    changes, fragment = CONFIGS[case]
    edit_config(folder, **changes)
    refused(folder, tmp_path, fragment)


def refused(folder: Path, tmp_path: Path, fragment: str) -> None:
    with pytest.raises(FormatError) as caught:
        import_hf(folder, tmp_path / "back.bin")
    assert fragment in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "back.bin").exists()


def set_head(tensors: dict[str, Any]) -> None:
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"] + 1


def add_score(tensors: dict[str, Any]) -> None:
    tensors["score.weight"] = np.zeros((2, 12), np.float32)


def drop_bias(tensors: dict[str, Any]) -> None:
    del tensors["transformer.h.1.mlp.c_fc.bias"]


def transpose(tensors: dict[str, Any]) -> None:
    tensors["transformer.h.0.mlp.c_fc.weight"] = tensors["transformer.h.0.mlp.c_fc.weight"].T


def whole_numbers(tensors: dict[str, Any]) -> None:
    tensors["transformer.ln_f.bias"] = tensors["transformer.ln_f.bias"].astype(np.int32)


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (set_head, "lm_head.weight"),
        (add_score, "has besides a plain GPT-2's the tensor score.weight"),
        (drop_bias, "lacks the tensor transformer.h.1.mlp.c_fc.bias:"),
        (transpose, "of shape (48, 12) and type F32, expected (12, 48)"),
        (whole_numbers, "type I32"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_tensors_of_another_model_are_refused(
    change: Callable[[dict[str, Any]], None], fragment: str, folder: Path, tmp_path: Path
) -> None:
    edit_tensors(folder, change)
    refused(folder, tmp_path, fragment)


@pytest.mark.parametrize(
    "carried",
    [
        "",
        "[]",
        "{}",
        '{"padded_vocab_size": 89, "step": 0}',
        '{"padded_vocab_size": 2000000000, "step": 0}',
        '{"padded_vocab_size": 128, "step": -1}',
        '{"padded_vocab_size": 128.0, "step": 0}',
        '{"padded_vocab_size": 128, "step": 0, "has_meta": true}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:50],
)
def test_metadata_that_cannot_be_ours_is_refused(
    carried: str, folder: Path, tmp_path: Path
) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors, folder / "model.safetensors", {"format": "pt", "pyllmc": carried})
    refused(folder, tmp_path, "metadata under 'pyllmc'")


@pytest.mark.parametrize(
    ("name", "missing"),
    [("config.json", "there is no"), ("model.safetensors", "No such file")],
)
def test_a_missing_or_damaged_file_is_refused(
    name: str, missing: str, folder: Path, tmp_path: Path
) -> None:
    data = (folder / name).read_bytes()
    for damaged in (b"", data[:5], data[: len(data) // 2], b"[1]", b"[" * 100_000, b"\xff" * 64):
        (folder / name).write_bytes(damaged)
        refused(folder, tmp_path, name)
    (folder / name).unlink()
    refused(folder, tmp_path, missing)


def test_a_pickle_is_not_read(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02.")
    refused(folder, tmp_path, "pickle only (pytorch_model.bin)")


def test_an_index_that_leaves_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    for names in ({"a": "../model.safetensors"}, {}, ["x"], {"a": 7, "b": ".."}):
        index = folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": names}))
        with pytest.raises(FormatError):
            import_hf(folder, tmp_path / "back.bin")


def test_a_folder_in_use_is_not_written_into(model: Path, folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    with pytest.raises(UsageError, match="not an empty folder"):
        export_hf(model, folder, None)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_failed_export_leaves_nothing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise WriteError("no space left")

    monkeypatch.setattr("pyllmc.interop.hf_export.atomic_write", full)
    with pytest.raises(WriteError):
        export_hf(model, tmp_path / "out", None)
    assert sorted(tmp_path.iterdir()) == [model]


NOT_PLAIN = {
    "its bandwidths differ by layer": {"fc1_bandwidth": [4, 0]},
    "its pattern is random": {"fc1_bandwidth": [8, 8], "pattern": "random"},
    "its MLP is 5 wide, not 4 C = 16": {"hidden": 5},
    "its MLP has rank 3": {"mlp_rank": 3},
}


@pytest.mark.parametrize("reason", NOT_PLAIN)
def test_a_model_that_is_not_a_plain_gpt2_is_not_exported(reason: str, tmp_path: Path) -> None:
    about = model_files.description(SMALL, **NOT_PLAIN[reason])
    model = tmp_path / "model.bin"
    model.write_bytes(model_files.model_file(about, model_files.random_tensors(about)))
    for export in (
        lambda: export_hf(model, tmp_path / "out", None),
        lambda: export_llmc(model, tmp_path / "out", "bf16"),
    ):
        with pytest.raises(FormatError, match=re.escape(f"is not a plain GPT-2 ({reason})")):
            export()
        assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_model_is_not_exported(tmp_path: Path) -> None:
    (tmp_path / "other.bin").write_bytes(bytes(4096))
    with pytest.raises(FormatError, match=r"other\.bin has the magic number 0"):
        export_hf(tmp_path / "other.bin", tmp_path / "hf", None)
    assert not (tmp_path / "hf").exists()


def test_a_tokenizer_of_another_size_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the tokenizer has 3 tokens and the model 90"):
        export_hf(model, tmp_path / "hf", TokenizerFiles([b"a", b"b", b"end"], 2))


def invoke(*args: object) -> str:
    result = CliRunner().invoke(cli.main, [str(arg) for arg in args], prog_name="pyllmc")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    return result.stderr


def test_the_commands_go_the_same_way(model: Path, tmp_path: Path) -> None:
    said = invoke("export", "hf", model, tmp_path / "hf")
    assert "tokenizer: none (V = 90" in said
    assert f"wrote {tmp_path / 'hf'}" in said
    invoke("import", "hf", tmp_path / "hf", "-o", tmp_path / "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == model.read_bytes()


def test_export_llmc_halves_and_widens(model: Path, tmp_path: Path) -> None:
    invoke("export", "llmc", model, tmp_path / "half.bin", "--precision", "bf16")
    invoke("export", "llmc", tmp_path / "half.bin", tmp_path / "wide.bin", "--precision", "fp32")
    half, wide = (_core.read_checkpoint(tmp_path / f"{n}.bin") for n in ("half", "wide"))
    header = _core.read_checkpoint_header(model)
    assert half[0] == header | {"precision": "bf16"}
    assert wide[0] == header
    for name, values in _core.read_checkpoint(model)[1].items():
        assert wide[1][name].tobytes() == half[1][name].tobytes()
        np.testing.assert_allclose(half[1][name], values, rtol=2**-8)
    sizes = [(tmp_path / f"{n}.bin").stat().st_size - 1024 for n in ("half", "wide")]
    assert sizes[1] == 2 * sizes[0]
