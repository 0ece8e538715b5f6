"""The C++ log parser and its twin in Python find the same losses in mutated logs."""

from __future__ import annotations

import math
import random

from formats.log_twin import COLUMNS, SPLITS, Log, read_log
from formats.mutations import flip_bit, splice

from pyllmc import _core

MUTATIONS = 2500
ORIGINALS = [
    b"s:0 tel:10.8544\ns:0 trl:10.9001 lr:0.000300 norm:1.25\ns:1 trl:10.5000 lr:3e-4\n"
    b"s:2 tel:9.1000\ns:2 tsb:9.3000\r\ns:2 tsl:9.2000\ns:2 eval:0.2447\nsaved\n\ns:1 tel:9.5\n",
    b"step:0/5100 val_loss:16.0297 train_time:0ms step_avg:nanms\n"
    b"step:1/5100 train_loss:16.0220 train_time:284ms step_avg:nanms\n"
    b"step:125/5100 val_loss:4.9850 train_time:36262ms step_avg:315.32ms",
    b'{"type":"settings","steps":2,"note":{"a":[1,"}"]}}\n'
    b'{"type":"val","step":0,"loss":10.854401588439941,"tokens":81920}\n'
    b'{"type": "train", "step": 0, "loss": 10.9, "lr": 0.0003, "grad_norm": 1.5}\n'
    b'{"type":"sample","step":1,"text":"He said \\"s:1 tel:3\\" {and left"}\n'
    b'{"type":"test","step":2,"loss":null,"tokens_per_second":7e3}\n{"type":"end","step":2}\n',
]
WORDS = [
    *(b"nan", b"-inf", b"1e999", b"1e-400", b"+2.5", b"-0", b"nan(x1)", b".5", b"7.", b"null"),
    *(b"s:3 ", b"\ns:4 tel:", b"step:9/", b"tel:1.25 ", b" lr:", b"train_loss:", b"norm:2"),
    *(b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b"/", b",", b'"', b"\\", b"{", b"}", b"[", b"]"),
    *(b"\xef\xbb\xbf", b"\xff", b'"loss":1.5,', b'"lr":"2"', b'"type":"val"', b"9" * 20),
]  # fmt: skip


def insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(WORDS) + data[at:]


def shuffle_lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    return b"".join(rng.choices(lines, k=rng.randrange(1, len(lines) + 3))) if lines else data


def end_early(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def mutated(data: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.choice([1, 2, 4, 8])):
        change = rng.choice([insert, insert, flip_bit, shuffle_lines, end_early, splice])
        data = splice(data, rng, 0) if change is splice else change(data, rng)
    return data


def parsed(data: bytes, piece: int) -> Log:
    """The C++ parser's answer in the twin's form."""
    answer = _core.parse_log_text(data, piece)
    log = Log(counts=answer["counts"])
    for split, series in answer["splits"].items():
        steps = series["step"].tolist()
        assert steps == sorted(set(steps))
        rows = zip(*(series[column].tolist() for column in COLUMNS), strict=True)
        log.splits[split] = dict(zip(steps, rows, strict=True))
    return log


def comparable(log: Log) -> list[object]:
    rows = {split: sorted(log.splits[split].items()) for split in SPLITS}
    # repr tells -0.0 from 0.0 and finds NaN equal to NaN.
    return [log.counts, repr(rows)]


def test_both_parsers_agree_on_mutated_logs() -> None:
    rng = random.Random(20260101)
    with_losses = 0
    skipped = 0
    for i in range(MUTATIONS):
        data = mutated(rng.choice(ORIGINALS), rng)
        expected = read_log(data)
        found = parsed(data, rng.choice([1, 7, 64, 1 << 20]))
        assert comparable(found) == comparable(expected), f"mutation {i}: {data!r}"
        with_losses += any(expected.splits.values())
        skipped += expected.counts["skipped"] > 0
    assert with_losses > MUTATIONS // 2
    assert skipped > MUTATIONS // 2


def test_the_twin_reads_the_originals() -> None:
    ours, modded, full = (read_log(data) for data in ORIGINALS)
    assert {split: list(rows) for split, rows in ours.splits.items()} == {
        **{"train": [0, 1], "val": [0, 2, 1], "test": [2], "train_subset": [2]}
    }
    assert ours.splits["train"][0][:3] == (10.9001, 0.0003, 1.25)
    assert math.isnan(ours.splits["train"][0][3])
    assert (ours.counts["other"], ours.counts["skipped"], ours.counts["blank"]) == (1, 1, 1)
    assert modded.splits["val"][125][0] == 4.985
    assert full.splits["train"][0][:3] == (10.9, 0.0003, 1.5)
    assert math.isnan(full.splits["test"][2][0])
    assert full.counts["other"] == 3
