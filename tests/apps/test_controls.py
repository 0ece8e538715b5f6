"""The programs on what only pyllmc's own model file can say: trained, saved, continued, spoken."""

from __future__ import annotations

import numpy as np
import pytest
from apps.lab import EOT, Lab, V
from formats.model_files import read_model

from pyllmc import _core

C, L = 16, 2
CASES = {
    "random": ("-1 24 -2 40 --pattern random --mask-seed 5", {}),
    "per-layer": ("-1 24,0 -2 0,40", {}),
    "narrow": ("-1 0", {"hidden": 40}),
    "low-rank": ("-1 0", {"mlp_rank": 3}),
    "shuffled": ("-1 24 --pattern band-permuted-residual --init-scale inverse-sqrt-density", {}),
}


def init(lab: Lab, **shape: int) -> None:
    _core.init_checkpoint(str(lab.folder / "m.bin"), C, L, 2, 16, V, "gpt2", 1337, **shape)


@pytest.mark.parametrize(("words", "shape"), CASES.values(), ids=CASES)
def test_a_checkpoint_is_read_by_every_program(lab: Lab, words: str, shape: dict[str, int]) -> None:
    init(lab, **shape)
    lab.trained("-e m.bin -c ckpt.bin -n 3 -g 0", words)
    header, tensors = read_model((lab.folder / "ckpt.bin").read_bytes())
    assert header["step"] == 3
    assert header["hidden"] == shape.get("hidden", 4 * C)
    assert header["mlp_rank"] == shape.get("mlp_rank", 0)
    lab.tokenizer("words_tokenizer.bin")
    done = lab.generate("-e", "ckpt.bin", "-n", 4, "-s", 1)
    assert done.returncode == 0, done.stderr
    kept = [line for line in done.stderr.splitlines() if line.startswith("density recorded")]
    assert len(kept) == 1
    if "mlp_rank" in shape:
        assert "FC1 23.4% (rank 3)" in kept[0]  # 3 (64 + 16) of 64 x 16
    if "24,0" in words:
        assert "another bandwidth in each layer" in kept[0]
    # What the file says and what was trained agree: nothing lies outside the patterns.
    for p in _core.Model(str(lab.folder / "ckpt.bin")).parameters():
        if p.name.endswith(("fcw", "fcprojw")):
            assert not p.dense()[~p.pattern.mask()].any()
    lab.trained("-e ckpt.bin -n 1 -g 0", words.replace("--init-scale inverse-sqrt-density", ""))
    assert (tensors["wte"][EOT] != 0).any()


def test_two_mask_seeds_give_two_masks_and_one_seed_one_run(lab: Lab) -> None:
    found = []
    for seed in (1, 2, 1):
        lab.trained("-c ckpt.bin -n 2 -g 0 -1 24 --pattern random --mask-seed", seed)
        found.append(read_model((lab.folder / "ckpt.bin").read_bytes())[1]["fcw"])
    assert np.array_equal(found[0], found[2])
    assert not np.array_equal(found[0] != 0, found[1] != 0)
