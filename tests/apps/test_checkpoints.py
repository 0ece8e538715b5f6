"""What train_banded writes, read by NumPy: header, order of tensors, zeros outside the band."""

from __future__ import annotations

import numpy as np
import pytest
from apps.lab import DENSE_AT, C, Lab
from oracle.band import fc1_mask, fc2_mask


def off_band(weights: dict[str, np.ndarray], fc1: int, fc2: int) -> np.ndarray:
    """All FC1 and FC2 weights outside their bands, of every layer."""
    outside = [weights["fcw"][:, ~fc1_mask(4 * C, C, fc1)],
               weights["fcprojw"][:, ~fc2_mask(C, 4 * C, fc2)]]  # fmt: skip
    return np.concatenate([part.ravel() for part in outside])


def test_the_header_records_the_run(lab: Lab) -> None:
    lab.trained("-n 3 -1 24 -2 40 --init-seed 5 --data-seed 4294967295 -g 0 -c ckpt.bin")
    words = np.fromfile(lab.folder / "ckpt.bin", "<u4", 256)
    assert words[:14].tolist() == [
        20240326, 3, 16, 260, 2, 2, 16, 384, 3, 1, 24, 40, 5, 4294967295]  # fmt: skip
    assert not words[14:].any()


@pytest.mark.parametrize(
    ("words", "init_seed", "data_seed"),
    [("", 77, 42), ("--seed 9", 9, 9), ("--init-seed 3", 3, 42), ("--seed 9 --data-seed 4", 9, 4)],
)
def test_seeds_come_from_the_flags_or_the_model(
    words: str, init_seed: int, data_seed: int, lab: Lab
) -> None:
    lab.model(seed=77)
    lab.trained("-n", 0, "-g", 0, "-c", "ckpt.bin", words)
    header, _ = lab.checkpoint()
    assert (header["init_seed"], header["data_seed"]) == (init_seed, data_seed)


def test_seeds_do_what_they_say(lab: Lab) -> None:
    def run(name: str, *words: object) -> tuple[list[str], list[str]]:
        lab.trained("-n", 3, "-g", 8, "-o", f"{name}.txt", *words)
        return lab.log(name), [event["text"] for event in lab.events("sample", name)]

    log, samples = run("plain")
    other_draws = run("init", "--init-seed", 1)
    assert other_draws[0] == log
    assert other_draws[1] != samples
    other_order = run("data", "--data-seed", 1)
    assert other_order[0][0] == log[0]
    assert other_order[0][1] != log[1]


@pytest.mark.parametrize("mask_init", [0, 1])
def test_weights_outside_the_band_are_exactly_0(mask_init: int, lab: Lab) -> None:
    bands = (24, 40)
    before = lab.checkpoint("model.bin")[1]
    assert np.all(off_band(before, *bands))
    lab.trained("-n 4 -1 24 -2 40 --weight-decay 0.1 -l 0.01 -g 0 -c ckpt.bin",
                "--mask-init", mask_init)  # fmt: skip
    _, after = lab.checkpoint()
    assert not np.any(off_band(after, *bands))
    assert not np.any(np.signbit(off_band(after, *bands)))
    assert np.all(after["fcw"][:, fc1_mask(4 * C, C, 24)])
    assert np.all(after["fcprojw"][:, fc2_mask(C, 4 * C, 40)])
    assert all(np.any(after[name] != before[name]) for name in before)


def test_without_a_step_and_without_masking_the_weights_are_the_models(lab: Lab) -> None:
    lab.trained("-n 0 -1 24 -2 40 --mask-init 0 -g 0 -c ckpt.bin")
    _, before = lab.checkpoint("model.bin")
    header, after = lab.checkpoint()
    assert (header["fc1_bandwidth"], header["fc2_bandwidth"]) == (24, 40)
    for name, tensor in before.items():
        assert tensor.tobytes() == after[name].tobytes(), name


def test_without_a_step_masking_zeroes_the_band_and_nothing_else(lab: Lab) -> None:
    lab.trained("-n 0 -1 24 -2 40 -g 0 -c ckpt.bin")
    _, expected = lab.checkpoint("model.bin")
    _, after = lab.checkpoint()
    expected["fcw"] = np.where(fc1_mask(4 * C, C, 24), expected["fcw"], 0)
    expected["fcprojw"] = np.where(fc2_mask(C, 4 * C, 40), expected["fcprojw"], 0)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(after[name], tensor, err_msg=name)


def test_unmasked_initial_weights_give_every_bandwidth_the_same_first_losses(lab: Lab) -> None:
    def first_losses(mask_init: int) -> list[list[float]]:
        runs = []
        for i, (fc1, fc2) in enumerate([(0, 0), (24, 0), (0, 24), (8, 40), (DENSE_AT, 16)]):
            lab.trained("-1", fc1, "-2", fc2, "--mask-init", mask_init, "-n", 2, "-v", 1, "-g", 0,
                        "-o", f"{i}.txt")  # fmt: skip
            events = [*lab.events("val", str(i)), *lab.events("train", str(i))]
            runs.append([event["loss"] for event in events if event["step"] == 0])
        return runs

    dense, *banded = first_losses(mask_init=0)
    assert banded == [dense] * 4
    dense, *banded = first_losses(mask_init=1)
    assert len({tuple(losses) for losses in [dense, *banded]}) == 5


def test_a_plain_llm_c_file_is_trained_like_one_with_a_record(lab: Lab) -> None:
    data = bytearray((lab.folder / "model.bin").read_bytes())
    data[32:1024] = bytes(992)  # all that llm.c's own files do not use
    (lab.folder / "plain.bin").write_bytes(data)
    lab.trained("-n", 2, "-g", 0, "-c", "a.bin")
    lab.trained("-n", 2, "-g", 0, "-c", "b.bin", "-e", "plain.bin")
    assert (lab.folder / "a.bin").read_bytes() == (lab.folder / "b.bin").read_bytes()
