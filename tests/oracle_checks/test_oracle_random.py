"""Random numbers, data order and sampling against published numbers and small cases by hand."""

import itertools

import numpy as np
import pytest
from oracle import data_order, philox, sampling

# Random123's known-answer tests for philox4x32, 10 rounds.
PHILOX_KNOWN = [
    ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), PHILOX_KNOWN, ids=["zeros", "ones", "pi"])
def test_philox_known_answers(counter, key, expected):
    assert philox.philox4x32_10(counter, key) == expected


def test_fnv1a64_known_answers():
    assert philox.fnv1a64("") == 0xCBF29CE484222325
    assert philox.fnv1a64("a") == 0xAF63DC4C8601EC8C
    assert philox.fnv1a64("foobar") == 0x85944171F73967E8


def test_key_and_counter_of_an_element():
    seed, name, step = 0x0123456789ABCDEF, "fcw", 7 + (9 << 32)
    hashed = philox.fnv1a64(name)
    key = (0x89ABCDEF ^ (hashed & 0xFFFFFFFF), 0x01234567 ^ (hashed >> 32))
    expected = philox.philox4x32_10((2, 0, 7, 9), key)
    assert tuple(philox.words(seed, name, 12, step)[8:]) == expected
    assert philox.words(seed, name, 5, step) == philox.words(seed, name, 12, step)[:5]


def test_normals_pair_up_and_have_the_right_moments():
    u = philox.uniform(3, "wte", 8)
    n = philox.normal(3, "wte", 7)
    radius, angle = np.sqrt(-2 * np.log(u[[0, 2]])), 2 * np.pi * u[[1, 3]]
    np.testing.assert_allclose(n[[0, 2]], radius * np.cos(angle), rtol=1e-15)
    np.testing.assert_allclose(n[[1, 3]], radius * np.sin(angle), rtol=1e-15)
    many = philox.normal(3, "wte", 40_000)
    assert abs(many.mean()) < 5 / 200  # five standard errors
    assert abs(many.var() - 1) < 5 * np.sqrt(2) / 200
    assert abs((many[0::2] * many[1::2]).mean()) < 5 / np.sqrt(20_000)


# First outputs of init_genrand: 5489 is the reference implementation's own default seed, the
# numbers for 137 stand in llm.c's llmc/rand.h.
MT_KNOWN = {
    5489: [3499211612, 581869302, 3890346734, 3586334585, 545404204],
    137: [4053805790, 2173880614, 380293709, 1237255315, 2986595568],
    42: [1608637542, 3421126067, 4083286876],
}


@pytest.mark.parametrize("seed", MT_KNOWN)
def test_mt19937_known_answers(seed):
    known = MT_KNOWN[seed]
    assert list(itertools.islice(data_order.mt19937(seed), len(known))) == known


def test_mt19937_ten_thousandth_output():
    # The C++ standard requires this value of std::mt19937 with its default seed, 5489.
    assert next(itertools.islice(data_order.mt19937(5489), 9999, None)) == 4123659995


def test_permutation_by_hand():
    # i=3: j=5%4=1: 0 3 2 1; i=2: j=2%3=2: unchanged; i=1: j=4%2=0: 3 0 2 1
    assert data_order.permutation(4, iter([5, 2, 4])) == [3, 0, 2, 1]
    assert data_order.permutation(1, iter([])) == [0]
    assert data_order.permutation(0, iter([])) == []


def test_chunk_counts_leave_room_for_the_last_target():
    assert [data_order.chunks(n, 2, 3) for n in (0, 1, 6, 7, 12, 13)] == [0, 0, 0, 1, 1, 2]


def test_training_order_draws_shards_then_chunks_for_ever():
    shard_tokens = [13, 6, 19]  # 2, 0 and 3 chunks of 6
    stream = data_order.mt19937(42)
    expected = []
    for _ in range(3):
        for shard in data_order.permutation(3, stream):
            expected += [(shard, c) for c in data_order.permutation([2, 0, 3][shard], stream)]
    order = data_order.training_order(shard_tokens, 2, 3, seed=42)
    assert list(itertools.islice(order, 15)) == expected
    assert sorted(expected[:5]) == [(0, 0), (0, 1), (2, 0), (2, 1), (2, 2)]
    assert expected[:5] != expected[5:10]
    with pytest.raises(ValueError, match="no shard"):
        next(data_order.training_order([6, 3], 2, 3, seed=42))


def test_read_shifts_targets_by_one():
    inputs, targets = data_order.read(np.arange(100, 120, dtype=np.uint16), 1, 2, 3)
    assert inputs.tolist() == [[106, 107, 108], [109, 110, 111]]
    assert targets.tolist() == [[107, 108, 109], [110, 111, 112]]


def test_sampling_temperature_and_top_k():
    logits = np.log([0.1, 0.4, 0.2, 0.3])
    np.testing.assert_allclose(sampling.probabilities(logits), [0.1, 0.4, 0.2, 0.3])
    np.testing.assert_allclose(sampling.probabilities(logits, top_k=2), [0, 4 / 7, 0, 3 / 7])
    squared = np.array([0.01, 0.16, 0.04, 0.09])
    np.testing.assert_allclose(
        sampling.probabilities(logits, temperature=0.5), squared / squared.sum()
    )
    np.testing.assert_allclose(sampling.probabilities(np.zeros(4), top_k=2), [0.5, 0.5, 0, 0])
    assert sampling.probabilities(logits, temperature=0).tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize(
    ("coin", "expected"), [(0.0, 1), (0.49, 1), (0.5, 2), (0.999, 2), (1 - 1e-17, 2)]
)
def test_sampling_by_coin(coin, expected):
    assert sampling.pick(np.array([0.0, 0.5, 0.5, 0.0]), coin) == expected
