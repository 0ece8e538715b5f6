"""Patterns, mask seeds, initial scales and bandwidths a layer, as train_banded takes them."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
from apps.lab import C, L, Lab, refusal
from oracle.band import fc1_mask

KINDS = ["band", "random", "block", "band-permuted-residual", "band-permuted-hidden"]
BANDS = "-1 24 -2 40 -g 0 -o log.txt -c ckpt.bin"


def off(lab: Lab, name: str = "ckpt.bin") -> np.ndarray:
    """Which FC1 weights are 0, (L, 4C, C)."""
    from pyllmc._core import read_model

    _, tensors = read_model(str(lab.folder / name))
    return np.asarray(tensors["fcw"] == 0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_pattern_trains_with_the_weights_of_the_band(kind: str, lab: Lab) -> None:
    out = lab.trained("-n", 2, BANDS, "--pattern", kind)
    settings = lab.events("settings")[0]
    assert (settings["pattern"], settings["mask_seed"]) == (kind, 1337)
    band = int(fc1_mask(4 * C, C, 24).sum())
    assert settings["fc1_kept"] == pytest.approx(band, rel=0.1)
    zeros = off(lab)
    assert (~zeros).sum() == L * settings["fc1_kept"]
    assert (("BANDED" in out), (f"{kind} (FC1 + FC2), mask seed 1337" in out)) == (
        kind == "band", kind != "band")  # fmt: skip
    in_band = all(np.array_equal(~layer, fc1_mask(4 * C, C, 24)) for layer in zeros)
    assert in_band == (kind == "band")


def test_the_mask_seed_draws_another_pattern(lab: Lab) -> None:
    drawn = []
    for words in ("", "--mask-seed 1337", "--mask-seed 7"):
        lab.trained("-n", 0, BANDS, "--pattern random", words)
        drawn.append(off(lab))
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_bandwidths_may_differ_by_layer(lab: Lab) -> None:
    out = lab.trained("-n", 1, "-1", "24,8", "-2", "40,40", "-g", 0, "-o", "log.txt", "-c", "c.bin")
    settings = lab.events("settings")[0]
    assert (settings["fc1_bandwidth"], settings["fc2_bandwidth"]) == ([24, 8], 40)
    kept = [int(fc1_mask(4 * C, C, bandwidth).sum()) for bandwidth in (24, 8)]
    assert (settings["fc1_kept"], settings["fc1_total"]) == (kept, 4 * C * C)
    for layer, bandwidth in zip(off(lab, "c.bin"), (24, 8), strict=True):
        assert np.array_equal(~layer, fc1_mask(4 * C, C, bandwidth))
    assert "| FC1 bandwidth         | 24,8 " in out
    assert f"| FC1 connections       | {sum(kept):,} / 2,048 " in out


def test_the_initial_scale_divides_by_the_root_of_the_density(lab: Lab) -> None:
    from pyllmc._core import read_model

    weights = []
    for scale in ("none", "inverse-sqrt-density"):
        lab.trained("-n", 0, BANDS, "--init-scale", scale)
        assert lab.events("settings")[0]["init_scale"] == scale
        weights.append(read_model(str(lab.folder / "ckpt.bin"))[1])
    density = fc1_mask(4 * C, C, 24).mean()
    np.testing.assert_allclose(weights[1]["fcw"], weights[0]["fcw"] / np.sqrt(density), rtol=1e-6)
    np.testing.assert_array_equal(weights[1]["qkvw"], weights[0]["qkvw"])


def test_a_pattern_is_continued_only_with_a_warning_when_another_is_asked_for(lab: Lab) -> None:
    lab.trained("-n", 1, BANDS, "--pattern random --mask-seed 5")
    again = ("-e", "ckpt.bin", "-n", 0, "-g", 0, "-1", 24, "-2", 40)
    assert lab.train(*again, "--pattern", "random", "--mask-seed", 5).stderr == ""
    assert lab.train(*again).stderr.splitlines() == [
        "warning: the model was trained with pattern random, this run uses band; "
        "give --pattern random to continue it as it was",
        "warning: the model was trained with mask seed 5, this run uses 1337; "
        "give --mask-seed 5 to continue it as it was",
    ]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--pattern diagonal", "diagonal"),
        ("--init-scale big", "--init-scale is 'big', it must be none or inverse-sqrt-density"),
        ("--mask-seed -1", "--mask-seed is -1, it must be 0 to 4294967295"),
        ("-1 24,8,8", "3"),
        ("-1 24,", "-1 needs a whole number, got ''"),
        ("-1 24,-8", "--fc1-bandwidth is -8, it must be 0 or more"),
    ],
)
def test_what_is_no_pattern_is_refused(words: str, sentence: str, lab: Lab) -> None:
    done = lab.train("-n", 0, words)
    assert done.returncode == 2
    assert sentence in refusal(done)


def test_the_train_subset_is_the_first_batches_of_the_training_data(lab: Lab) -> None:
    words = ("-n", 3, "-v", 2, "-g", 0, "-o", "log.txt")
    lab.trained(*words, "--train-eval-batches", 3)
    subset = lab.events("train_subset")
    assert [(event["step"], event["tokens"]) for event in subset] == [(0, 192), (2, 192), (3, 192)]
    assert [line for line in lab.log() if " tsb:" in line] == [
        f"s:{event['step']} tsb:{event['loss']:.4f}" for event in subset
    ]
    kinds = [line.split(":")[1].split()[1] for line in lab.log()]
    assert kinds == ["tel", "tsb", "trl", "trl", "tel", "tsb", "trl", "tel", "tsb"]
    # The same tokens as a validation file of their own.
    first = np.fromfile(lab.folder / "data/tinystories/TinyStories_train.bin", "<u2", offset=1024)
    lab.tokens("first.bin", first[:193])
    lab.trained(*words, "-j", "first.bin", "-o", "first.txt")
    assert [event["loss"] for event in lab.events("val", "first")] == [
        event["loss"] for event in subset
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_band_is_multiplied_alone_as_the_help_says(kind: str, lab: Lab) -> None:
    lab.trained("-n", 1, BANDS, "--execution band --pattern", kind)
    assert lab.events("settings")[0]["execution"] == ("band" if kind == "band" else "mask")
    program = str(lab.programs.train_banded)
    told = subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout
    assert "every other\n--pattern keeps whole weights under a mask" in told
