"""Which runs are shown together: a baseline and the runs compared with it, by bandwidth."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pyllmc.report.inputs import Arm, Experiment
from pyllmc.report.markdown import escape

# As the matrix file's lists of learning rates end their arms' labels.
_RATE = re.compile(r", lr [-\d.e]+$")


@dataclass(frozen=True)
class Group:
    """A baseline and the arms compared with it, in the order of the matrix."""

    baseline: Arm
    arms: tuple[Arm, ...]


@dataclass(frozen=True)
class Panel:
    """Arms for one table and one chart. `key` is safe in a file name."""

    key: str
    title: str
    baseline: Arm
    arms: tuple[Arm, ...]


def groups(experiment: Experiment) -> list[Group]:
    """One group a baseline, the matrix's first. A run that is a baseline is compared with none."""
    names = [experiment.baseline, *(arm.baseline for arm in experiment.arms)]
    return [
        Group(
            experiment.arm(name),
            tuple(a for a in experiment.arms if a.baseline == name and a.name not in names),
        )
        for name in dict.fromkeys(names)
    ]


def panels(group: Group, experiment: Experiment) -> list[Panel]:
    """One panel a bandwidth, widest first, where several arms share one; else one for all."""
    prefix = key_prefix(group, experiment)
    by_bandwidth: dict[int, list[Arm]] = {}
    others = []
    for arm in group.arms:
        widths = {band.bandwidth for band in arm.banded.values()}
        width = widths.pop() if len(widths) == 1 else None
        if isinstance(width, int):
            by_bandwidth.setdefault(width, []).append(arm)
        else:
            others.append(arm)
    if all(len(arms) < 2 for arms in by_bandwidth.values()):
        title = "Validation loss" if not prefix else f"Against {escape(group.baseline.label)}"
        return [Panel(f"{prefix}loss", title, group.baseline, group.arms)]
    found = [
        Panel(f"{prefix}loss_bw{width}", f"Bandwidth {width}", group.baseline, tuple(arms))
        for width, arms in sorted(by_bandwidth.items(), reverse=True)
    ]
    if others:
        found.append(Panel(f"{prefix}loss_other", "Other runs", group.baseline, tuple(others)))
    return found


def key_prefix(group: Group, experiment: Experiment) -> str:
    """What the file names of a group's charts begin with; nothing for the matrix's baseline."""
    name = group.baseline.name
    return "" if name == experiment.baseline else re.sub(r"[^A-Za-z0-9.+-]", "_", name) + "_"


def kind(arm: Arm) -> str:
    """Which matrices have a band: "FC1", "FC2", "FC1+FC2", or "" for none; a control's name says
    what it has instead ("FC1+FC2 random")."""
    matrices = "+".join(name.upper() for name in arm.banded)
    pattern = "" if arm.mlp.pattern == "band" else arm.mlp.pattern
    return " ".join(word for word in (matrices, pattern, arm.mlp.shape) if word)


def mlp_text(arm: Arm) -> str:
    """The bandwidth, and what makes the arm a control: "256 random", "- narrower"."""
    pattern = "" if arm.mlp.pattern == "band" else arm.mlp.pattern
    return " ".join(word for word in (bandwidth_text(arm), pattern, arm.mlp.shape) if word)


def is_control(arm: Arm) -> bool:
    """Whether the arm is there for a band to be compared with, and is no plain band itself."""
    return bool(arm.mlp.shape) or arm.mlp.pattern != "band"


def bandwidth_text(arm: Arm) -> str:
    """ "256", "1024/256" where they differ, "-" for a dense run; by layer "256,128"."""
    return "/".join(dict.fromkeys(band.text for band in arm.banded.values())) or "-"


def distinct_labels(arms: Sequence[Arm]) -> dict[str, str]:
    """Label by arm name; arms that share a label are told apart by their names, and a learning rate
    that all of them name is left out."""
    rates = [_RATE.search(arm.label) for arm in arms]
    texts = {rate[0] if rate else "" for rate in rates}
    common = texts.pop() if len(arms) > 1 and len(texts) == 1 else ""
    labels = {arm.name: arm.label.removesuffix(common) for arm in arms}
    shared = Counter(labels.values())
    return {
        name: label if shared[label] == 1 else f"{label} ({name})" for name, label in labels.items()
    }
