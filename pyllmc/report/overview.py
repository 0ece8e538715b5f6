"""The report's first part: what was compared, on which model, with which settings."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from pyllmc.report import markdown as md
from pyllmc.report.arithmetic import forward_share
from pyllmc.report.inputs import Band, Experiment, Trial
from pyllmc.report.outcomes import Outcomes, State
from pyllmc.report.panels import is_control
from pyllmc.report.repeats import Repeat

ONE_SEED = (
    "One seed: differences carry no error bars and none is called an effect here. "
    "They describe these runs only."
)
# A setting that differs names its runs in at most so many characters, else counts them.
_LONGEST = 400
# What a settings line says about the model, the files or the machine stands elsewhere.
_ELSEWHERE = {
    "type", "version", "kernels", "gpu", "memory_bytes",
    "fc1_bandwidth", "fc2_bandwidth",
    "fc1_kept", "fc1_total", "fc2_kept", "fc2_total", "channels", "layers", "heads",
    "max_sequence_length", "vocab_size", "padded_vocab_size", "parameters", "train_tokens",
    "val_tokens", "test_tokens", "val_tokens_evaluated", "model", "train_data", "val_data",
    "test_data", "pattern", "hidden", "mlp_rank",
}  # fmt: skip
_SEEDS = ("init_seed", "data_seed")


def banners(experiment: Experiment, outcomes: Outcomes, repeats: Iterable[Repeat]) -> list[str]:
    """What a reader must know before any number."""
    lines = []
    broken = [r for r in repeats if r.difference]
    if broken:
        names = md.listed(list(dict.fromkeys(md.escape(r.arm.label) for r in broken)))
        lines.append(
            f"**Something is wrong: {names} should repeat the baseline bit for bit and does "
            "not.** Until that is explained no difference in this report can be trusted."
        )
    wrong = [o for o in outcomes.all if o.state is State.MISMATCHED]
    if wrong:
        names = md.listed([_cell(experiment, o.trial.arm, o.trial.seed) for o in wrong])
        lines.append(
            f"**Left out, because their logs are not those of the runs asked for: {names}.**"
        )
    absent = [o for o in outcomes.all if o.state not in (State.DONE, State.MISMATCHED)]
    if absent:
        names = md.listed([_cell(experiment, o.trial.arm, o.trial.seed) for o in absent])
        lines.append(
            f"**{len(absent)} of {len(outcomes.all)} runs did not finish: {names}** "
            "(see [What happened](#what-happened))."
        )
    if experiment.one_seed:
        lines.append(f"**{ONE_SEED}**")
    return [f"> {line}" for line in lines]


def architecture(experiment: Experiment) -> list[str]:
    """Shape of the model."""
    shape = experiment.architecture
    columns = {
        "C": "channels",
        "L": "num_layers",
        "NH": "num_heads",
        "V": "vocab_size",
        "Vp": "padded_vocab_size",
        "maxT": "max_seq_len",
        "Parameters": "parameters",
    }
    words = "C: channels, L: layers, NH: heads, V: vocabulary (Vp: padded), maxT: context length."
    for name, key, usual, word in (
        ("H", "hidden", 4 * shape["channels"], "hidden width of the MLP"),
        ("r", "mlp_rank", 0, "rank of both MLP weights"),
    ):
        if shape[key] != usual:
            columns[name] = key
            words = f"{words[:-1]}, {name}: {word}."
    return [
        "### Model",
        f"Read from {experiment.architecture_source}. {words}",
        md.table(list(columns), [[f"{shape[key]:,}" for key in columns.values()]]),
    ]


def settings(experiment: Experiment, outcomes: Outcomes) -> list[str]:
    """Common training settings, and every one in which runs differ (bands and seeds apart)."""
    used = {(o.trial.arm, o.trial.seed): _used(experiment, o.trial) for o in outcomes.all}
    several = len(experiment.seeds) > 1
    rows = []
    for key in dict.fromkeys(key for values in used.values() for key in values):
        if key in _ELSEWHERE or key.endswith("_fingerprint") or (several and key in _SEEDS):
            continue
        holders: dict[str, list[str]] = {}
        for (arm, _), values in used.items():
            if key in values:
                names = holders.setdefault(_value(values[key]), [])
                if experiment.arm(arm).label not in names:
                    names.append(experiment.arm(arm).label)
        if key == "mask_seed" and len(holders) == 1:
            continue  # says something about draws only
        if len(holders) == 1:
            rows.append([key, next(iter(holders))])
        else:
            text = "; ".join(f"{value} ({md.listed(names)})" for value, names in holders.items())
            if len(text) > _LONGEST:
                text = "; ".join(f"{value} ({len(names)} runs)" for value, names in holders.items())
            rows.append([f"{key}: DIFFERS", text])
    rows += _tokens_seen(experiment)
    if several:
        rows.append(
            ["seeds (initial weights and data order)", ", ".join(map(str, experiment.seeds))]
        )
    blocks = ["### Training settings", md.table(["Setting", "Value"], rows)]
    changed = _against_matrix(experiment, outcomes)
    if changed:
        blocks.append("Runs that were made with other settings than the matrix file has now:")
        blocks.append(md.bullets(changed))
    return blocks


def validation_tokens(experiment: Experiment) -> str:
    """One sentence: over how many tokens the loss is a mean."""
    counts = {t.settings.get("val_tokens_evaluated") for t in experiment.trials if t.settings}
    known = sorted(count for count in counts if count is not None)
    if known:
        text = md.listed([f"{count:,}" for count in known])
        differs = " (the runs differ)" if len(known) > 1 else ""
        return (
            f"Losses are means over the first {text} validation tokens{differs}, in nats a token."
        )
    limits = {
        a.settings.get("val_batches", 0)
        * a.settings.get("batch_size", 0)
        * a.settings.get("sequence_length", 0)
        for a in experiment.arms
    }
    text = md.listed([f"{limit:,}" for limit in sorted(limits)])
    return (
        f"Losses are means over at most the first {text} validation tokens, in nats a token; "
        "without their .jsonl the logs do not say how many there were."
    )


def densities(experiment: Experiment) -> list[str]:
    """What each bandwidth keeps, and what that is of the model's work."""
    kept: dict[tuple[str, Band], None] = {}
    for arm in (a for a in experiment.arms if not is_control(a)):
        kept.update(dict.fromkeys(arm.banded.items()))
    if not kept:
        return []
    rows = []
    for band in sorted({band for _, band in kept}, key=lambda b: (-b.density, b.text)):
        names = sorted(name.upper() for name, other in kept if other == band)
        rows.append(
            [
                band.text,
                " and ".join(names),
                f"{band.kept:,} of {band.total:,}"
                + (f" in {band.layers} layers" if band.layers > 1 else ""),
                md.percent(band.density),
                md.percent(forward_share(experiment, (band.total - band.kept) / band.layers)),
                md.percent(forward_share(experiment, 2 * (band.total - band.kept) / band.layers)),
                "keeps everything: such a run is dense" if band.keeps_all else "",
            ]
        )
    header = ["Bandwidth", "Used on", "Kept per layer", "Density",
              "Multiply-adds, one banded", "both banded", "Note"]  # fmt: skip
    return [
        "### Densities",
        "Computed from the band's definition: hidden unit j and residual channel i are connected "
        f"where |j − i·H/C| ≤ bandwidth/2 (H = {_hidden(experiment)}), in FC1 and, transposed, in "
        "FC2. The two columns of multiply-adds are what a forward pass needs of the dense model's "
        "(all layers, causal attention and output head included) if FC1 or FC2 alone, or both, "
        "have this band.",
        md.table(header, rows),
    ]


def _hidden(experiment: Experiment) -> str:
    """H as readers know it."""
    shape = experiment.architecture
    return "4C" if shape["hidden"] == 4 * shape["channels"] else f"{shape['hidden']:,}"


def _tokens_seen(experiment: Experiment) -> list[list[str]]:
    """Tokens trained on, and how many times over the training data that is."""
    texts = []
    for trial in experiment.trials:
        used = _used(experiment, trial)
        keys = ("steps", "batch_size", "sequence_length", "accumulate")
        factors = [int(used.get(key) or 0) for key in keys]
        if min(factors) < 1:
            continue
        seen = math.prod(factors)
        there = used.get("train_tokens")
        epochs = f", {seen / there:.3g} epochs of {there:,} tokens" if there else ""
        texts.append(f"{seen:,}{epochs}")
    return [["tokens to train on", "; ".join(dict.fromkeys(texts))]] if texts else []


def _used(experiment: Experiment, trial: Trial) -> dict[str, Any]:
    """The settings a run had: its own word first, the matrix's where it says nothing."""
    arm = experiment.arm(trial.arm)
    files = {f"{name} data": path for name, path in arm.data.items() if path is not None}
    return {**arm.settings, **trial.settings, **files}


def _against_matrix(experiment: Experiment, outcomes: Outcomes) -> list[str]:
    found: dict[str, list[str]] = {}
    for outcome in outcomes.all:
        arm = experiment.arm(outcome.trial.arm)
        ran = outcome.trial.settings
        for key, asked in arm.settings.items():
            if key in _ELSEWHERE or key not in ran or _value(ran[key]) == _value(asked):
                continue
            text = f"{key}: {_value(ran[key])} in the runs, {_value(asked)} in the matrix file"
            names = found.setdefault(text, [])
            if arm.label not in names:
                names.append(arm.label)
    everyone = len({o.trial.arm for o in outcomes.all if o.trial.settings})
    return [
        f"{text} ({'all runs' if len(names) == everyone else md.listed(names)})"
        for text, names in found.items()
    ]


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cell(experiment: Experiment, arm: str, seed: int | None) -> str:
    label = md.escape(experiment.arm(arm).label)
    return label if seed is None else f"{label} (seed {seed})"
