"""The rules of csrc/formats/log_parser.h once more, in Python."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

SPLITS = ("train", "val", "test", "train_subset")
COLUMNS = ("loss", "lr", "grad_norm", "tokens_per_second")
KEYS = {
    b"trl": "train", b"train_loss": "train", b"tel": "val", b"val_loss": "val", b"tsl": "test",
    b"test_loss": "test", b"tsb": "train_subset", b"train_subset_loss": "train_subset",
    b"lr": "lr", b"norm": "grad_norm", b"grad_norm": "grad_norm",
    b"tokens_per_second": "tokens_per_second",
}  # fmt: skip
BLANKS = b" \t\r"
_DIGITS = re.compile(rb"-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.I)
_WORDS = re.compile(rb"-?(inf(inity)?|(nan(\([a-z0-9_]*\))?))", re.I)
_STEP = re.compile(rb"-?\d+")
_STRING = re.compile(rb'[ \t\r]*"((?:[^"\\]|\\.)*)"', re.S)
_BARE = re.compile(rb'[ \t\r]*([^,}\] \t\r"{\[][^,}\] \t\r]*)', re.S)
_MARK = re.compile(rb"[ \t\r]*(.)", re.S)


def number(text: bytes) -> float | None:
    if len(text) > 1 and text[:1] == b"+" and text[1:2] != b"-":
        text = text[1:]
    if _WORDS.fullmatch(text):
        return float(text.lower().partition(b"(")[0])
    if not _DIGITS.fullmatch(text):
        return None
    value = float(text)
    zero = not re.search(rb"[1-9]", text.lower().partition(b"e")[0])
    return value if math.isfinite(value) and (value != 0 or zero) else None


def whole(text: bytes) -> int | None:
    value = int(text) if _STEP.fullmatch(text) else -1
    return value if 0 <= value < 2**63 else None


def members(text: bytes) -> list[tuple[bytes, bytes]] | None:
    """Keys and raw values of one closed object; what is nested is empty."""
    at = 0

    def mark(wanted: bytes) -> bool:
        nonlocal at
        match = _MARK.match(text, at)
        if not match or match[1] != wanted:
            return False
        at = match.end()
        return True

    def take(pattern: re.Pattern[bytes]) -> bytes | None:
        nonlocal at
        match = pattern.match(text, at)
        if not match:
            return None
        at = match.end()
        return match[1]

    def nested() -> bytes | None:
        nonlocal at
        match = _MARK.match(text, at)
        if not match or match[1] not in b"{[":
            return None
        at, depth = match.start(1), 0
        while at < len(text):
            if text[at : at + 1] == b'"':
                if take(_STRING) is None:
                    return None
                continue
            depth += (text[at] in b"{[") - (text[at] in b"}]")
            at += 1
            if depth == 0 and text[at - 1] in b"}]":
                return b""
        return None

    found: list[tuple[bytes, bytes]] = []
    if not mark(b"{"):
        return None
    if not mark(b"}"):
        while True:
            key = take(_STRING)
            if key is None or not mark(b":"):
                return None
            value = next((v for v in (take(_STRING), None) if v is not None), None)
            value = take(_BARE) if value is None else value
            value = nested() if value is None else value
            if value is None:
                return None
            found.append((key, value))
            if not mark(b","):
                break
        if not mark(b"}"):
            return None
    return found if not text[at:].strip(BLANKS) else None


def pairs(text: bytes, ended: bool) -> dict[str, float] | str:
    words = [word for word in re.split(rb"[ \t]+", text.partition(b":")[2]) if word]
    step, slash, steps = words[0].partition(b"/")
    if whole(step) is None or (slash and whole(steps) is None) or len(words) < 2:
        return "skipped"
    found: dict[str, float] = {}
    for i, word in enumerate(words[1:], start=2):
        may_be_cut = i == len(words) and not ended
        name, colon, digits = word.partition(b":")
        key = KEYS.get(name) if colon else None
        if may_be_cut and key not in SPLITS:
            break
        if not colon or not name or (key is None and name in (b"s", b"step")):
            return "skipped"
        if key is None:
            continue
        value = number(digits)
        if value is None or key in found:
            return "skipped"
        if may_be_cut and math.isfinite(value) and len(digits.partition(b".")[2]) < 4:
            return "skipped"
        found[key] = value
    if not found.keys() & set(SPLITS):
        return "other" if ended else "skipped"
    return {"step": whole(step) or 0, **found}


def entry(text: bytes) -> dict[str, float] | str:
    found = members(text)
    values = dict(found or [])
    kind = values.get(b"type", b"").decode("latin-1")
    if not kind:
        return "skipped"
    if kind not in SPLITS:
        return "other"
    step = whole(values.get(b"step", b""))
    loss_text = values.get(b"loss", b"")
    loss = math.nan if loss_text == b"null" else number(loss_text)
    further: dict[str, float] = {}
    for name, value in found or []:
        key = KEYS.get(name)
        if key is None or key in SPLITS or value == b"null":
            continue
        read = number(value)
        if read is None:
            return "skipped"
        further[key] = read
    if step is None or loss is None:
        return "skipped"
    return {"step": step, **further, kind: loss}


@dataclass
class Log:
    """`splits[split][step]` = (loss, lr, grad_norm, tokens_per_second), the last of each step."""

    splits: dict[str, dict[int, tuple[float, ...]]] = field(
        default_factory=lambda: {split: {} for split in SPLITS}
    )
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("lines", "blank", "other", "skipped", "torn", "repeated", "nonfinite"), 0
        )
    )

    def take(self, text: bytes, ended: bool) -> None:
        self.counts["lines"] += 1
        if self.counts["lines"] == 1:
            text = text.removeprefix(b"\xef\xbb\xbf")
        bare = text.lstrip(b"\0")
        stripped = bare.rstrip(BLANKS)
        if not stripped:
            self.counts["skipped" if text[:1] == b"\0" else "blank"] += 1
            return
        found: dict[str, float] | str = "skipped"
        if b"\0" not in stripped:
            if stripped[:1] == b"{":
                found = entry(stripped)
            elif re.match(rb"(s|step):\d", stripped):
                found = pairs(stripped, ended or stripped != bare)
        if isinstance(found, str):
            self.counts[found] += 1
            self.counts["torn"] += found == "skipped" and not ended
            return
        rest = tuple(found.get(column, math.nan) for column in COLUMNS[1:])
        for split in SPLITS:
            if split in found:
                self.counts["nonfinite"] += not math.isfinite(found[split])
                self.counts["repeated"] += int(found["step"]) in self.splits[split]
                self.splits[split][int(found["step"])] = (found[split], *rest)


def read_log(data: bytes) -> Log:
    log = Log()
    *lines, last = data.split(b"\n")
    for line in lines:
        log.take(line, True)
    if last:
        log.take(last, False)
    return log
