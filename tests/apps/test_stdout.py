"""What train_banded prints: the settings table, masks, notes, losses."""

from __future__ import annotations

import re

import pytest
from apps.lab import DENSE_AT, PARAMETERS, Lab

ROWS = (
    *("FC1 bandwidth", "FC2 bandwidth", "Sparsity mode", "model path", "checkpoint path"),
    *("checkpoint_every", "train data pattern", "val data pattern", "test data pattern"),
    *("output log file", "tokenizer", "max_steps", "batch size B", "accumulate"),
    *("sequence length T", "learning rate", "warmup", "schedule", "weight decay"),
    *("gradient clipping", "val_loss_every", "val_max_steps", "train_eval_batches"),
    *("sample_every", "genT"),
    *("init seed, data seed", "device", "threads", "precision", "matrix product"),
    "max_sequence_length T",
    *("vocab_size V", "padded_vocab_size Vp", "num_layers L", "num_heads NH", "channels C"),
    *("num_parameters", "train_num_batches", "val_num_batches", "memory: parameters"),
    *("memory: gradients", "memory: AdamW state", "memory: activations", "memory: workspace"),
    "memory: all",
)


def table(out: str) -> dict[str, str]:
    rows = re.findall(r"^\| (.{21}) \| (.{50}) \|$", out, re.MULTILINE)
    return {name.strip(): value.strip() for name, value in rows[1:]}


def test_the_table_has_every_setting(lab: Lab) -> None:
    out = lab.trained("-n", 0, "-g", 0, "-l", 1e-3, "--min-lr", 1e-4, "--grad-clip", 2)
    rows = table(out)
    assert tuple(rows) == ROWS
    assert rows["Sparsity mode"] == "DENSE (no sparsity)"
    assert rows["learning rate"] == "0.001"
    assert rows["schedule"] == "cosine to 0.0001"
    assert rows["gradient clipping"] == "2"
    assert rows["sequence length T"] == "16"
    assert rows["num_parameters"] == str(PARAMETERS)
    assert rows["train_num_batches"] == "31"
    assert rows["val_num_batches"] == "6"
    assert rows["init seed, data seed"] == "1337, 42"
    assert re.fullmatch(r"[\d.]+ KiB of [\d.]+ [GT]iB free", rows["memory: all"])


@pytest.mark.parametrize(
    ("words", "mode", "bands"),
    [
        ("-1 256 -2 512", "FC1 + FC2", {"FC1": (256, 43.9, 28768), "FC2": (512, 75.1, 49216)}),
        ("-1 256", "FC1 only", {"FC1": (256, 43.9, 28768), "FC2": None}),
        ("-2 512", "FC2 only", {"FC1": None, "FC2": (512, 75.1, 49216)}),
    ],
    ids=["both", "FC1", "FC2"],
)
def test_mask_rows_count_what_is_kept(
    words: str, mode: str, bands: dict[str, tuple[int, float, int] | None], lab: Lab
) -> None:
    lab.model(channels=128)
    rows = table(lab.trained(words, "-n", 0, "-m", 1, "-g", 0))
    assert rows["Sparsity mode"] == f"BANDED ({mode})"
    for layer, kept in bands.items():
        if kept is None:
            assert rows[layer] == "DENSE (bandwidth=0)"
            continue
        bandwidth, density, count = kept
        assert rows[f"{layer} banded mask"] == f"bandwidth={bandwidth}, density={density}%"
        assert rows[f"{layer} connections"] == (
            f"{2 * count:,} / 131,072 (per layer: {count:,} / 65,536)"
        )
    assert rows["Mask mode"] == "initial weights + gradients + post-update"


def test_mask_mode_without_masked_initial_weights(lab: Lab) -> None:
    rows = table(lab.trained("-1", 24, "--mask-init", 0, "-n", 0, "-g", 0))
    assert rows["Mask mode"] == "gradients + post-update only"


KEEPS_ALL = f"{DENSE_AT} keeps 1,024 of 1,024 entries: this"


@pytest.mark.parametrize(
    ("words", "sentences"),
    [
        (f"-1 {DENSE_AT} -2 {DENSE_AT}", [f"bandwidth {KEEPS_ALL} run is dense"]),
        (f"-1 {DENSE_AT}", [f"bandwidth {KEEPS_ALL} run is dense"]),
        (f"-2 {DENSE_AT}", [f"bandwidth {KEEPS_ALL} run is dense"]),
        (f"-1 {DENSE_AT} -2 24", [f"note: FC1 bandwidth {KEEPS_ALL} layer is dense"]),
        (f"-1 24 -2 {DENSE_AT}", [f"note: FC2 bandwidth {KEEPS_ALL} layer is dense"]),
        (f"-1 {DENSE_AT - 1}", []),
        ("", []),
        (f"-1 {DENSE_AT} -d 1", []),
    ],
)
def test_a_band_that_keeps_everything_is_called_dense(
    words: str, sentences: list[str], lab: Lab
) -> None:
    out = lab.trained(words, "-n", 0, "-g", 0)
    assert [line for line in out.splitlines() if line.endswith("is dense")] == sentences


def test_the_seeds_own_example_of_a_dense_band(lab: Lab) -> None:
    lab.model(channels=128)
    out = lab.trained("-1", 1024, "-n", 0, "-m", 1, "-g", 0)
    assert "\nbandwidth 1024 keeps 65,536 of 65,536 entries: this run is dense\n" in out


def test_continuing_with_another_band_is_warned_of(lab: Lab) -> None:
    lab.trained("-1", 24, "-2", 40, "-n", 1, "-g", 0, "-c", "ckpt.bin")
    again = ("-e", "ckpt.bin", "-n", 0, "-g", 0)
    assert lab.train(*again, "-1", 24, "-2", 40).stderr == ""
    forgotten = lab.train(*again)
    assert forgotten.returncode == 0
    assert forgotten.stderr.splitlines() == [
        "warning: the model was trained with FC1 bandwidth 24, this run uses 0; "
        "give -1 24 to continue it as it was",
        "warning: the model was trained with FC2 bandwidth 40, this run uses 0; "
        "give -2 40 to continue it as it was",
    ]
    assert "FC1 bandwidth 24, this run uses 16" in lab.train(*again, "-1", 16, "-2", 40).stderr


def test_a_line_a_step_a_validation_and_a_checkpoint(lab: Lab) -> None:
    out = lab.trained("-n", 2, "-v", 1, "-g", 0, "-c", "ckpt.bin", "-o", "log.txt")
    lines = out[out.rindex("-+\n") + 3 :].splitlines()
    val = [f"val loss {event['loss']:.6f} (step {event['step']}, 384 tokens)"
           for event in lab.events("val")]  # fmt: skip
    train = [f"step    {event['step'] + 1}/2: train loss {event['loss']:.6f} "
             for event in lab.events("train")]  # fmt: skip
    size = (lab.folder / "ckpt.bin").stat().st_size / 2**20
    expected = [
        *(val[0], train[0], val[1], train[1], val[2]),
        "saving checkpoint to ckpt.bin",
        f"checkpoint saved ({PARAMETERS} parameters, {size:.2f} MB)",
        "total average iteration time: ",
    ]
    assert len(lines) == len(expected)
    assert all(line.startswith(start) for line, start in zip(lines, expected, strict=True))
    assert re.search(r" \(\d+\.\d{3} ms, \d+ tok/s, \d+:\d\d left\)$", lines[1])
    assert re.fullmatch(r"total average iteration time: \d+\.\d{6} ms", lines[-1])
