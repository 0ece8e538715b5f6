"""Counts of a model's parameters and multiply-adds, by hand and against its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyllmc import _core
from pyllmc.models.init import init_model
from pyllmc.models.shape import band_macs, forward_macs, mlp_weights, padded_vocab, parameters


@pytest.mark.parametrize("sizes", [{}, {"hidden": 40}, {"mlp_rank": 3}], ids=str)
def test_parameters_are_those_of_a_file(sizes: dict[str, int], tmp_path: Path) -> None:
    init_model(tmp_path / "model.bin", 16, 2, 2, 8, 100, **sizes)
    header, tensors = _core.read_model(str(tmp_path / "model.bin"))
    assert padded_vocab(100) == header["padded_vocab_size"]
    hidden = sizes.get("hidden", 64)
    assert sum(tensor.size for tensor in tensors.values()) == parameters(
        channels=16,
        layers=2,
        context=8,
        padded_vocab=header["padded_vocab_size"],
        hidden=hidden,
        mlp=2 * mlp_weights(16, hidden, sizes.get("mlp_rank", 0)),
    )


def test_attention_is_causal() -> None:
    """A token's scores and mix go over itself and those before it."""
    C, T, V = 16, 8, 100
    pairs = sum(range(1, T + 1)) / T
    by_hand = 3 * (4 * C * C + 2 * pairs * C) + 999 + C * V
    found = forward_macs(channels=C, layers=3, sequence_length=T, vocab=V, mlp=999)
    assert found == by_hand


@pytest.mark.parametrize(
    ("H", "C", "bandwidth"),
    [(512, 128, 64), (512, 128, 256), (512, 128, 1), (200, 50, 30), (96, 40, 20), (24, 96, 9)],
)
def test_a_band_alone_costs_the_pieces_that_hold_it(H: int, C: int, bandwidth: int) -> None:
    for weight, pattern in (
        ("fc1", _core.Pattern.make("band", H, C, "rows", bandwidth)),
        ("fc2", _core.Pattern.make("band", C, H, "cols", bandwidth)),
    ):
        mask = pattern.mask() if weight == "fc1" else pattern.mask().T
        tiles = panels = 0
        for first in range(0, H, 32):
            seen = mask[first : first + 32].any(axis=0).nonzero()[0]
            tiles += 32 * (min(C, (seen[-1] + 2) // 2 * 2) - seen[0] // 2 * 2)
        for first in range(0, C, 16):
            seen = mask[:, first : first + 16].any(axis=1).nonzero()[0]
            panels += 16 * (seen[-1] + 1 - seen[0] // 2 * 2)
        assert band_macs(weight, pattern) == pytest.approx((2 * tiles + panels) / 3)
