"""The questions of the banded comparison, as numbers: layers, additivity, sweet spots."""

from __future__ import annotations

from dataclasses import dataclass

from pyllmc.report.comparisons import Comparison, compare, final_value
from pyllmc.report.inputs import Arm
from pyllmc.report.outcomes import Difference, Outcomes, Sample
from pyllmc.report.panels import Group, is_control, kind

# A run counts as near the baseline when its final loss is at most this much above it.
SWEET_SPOT_PERCENT = 1.0


@dataclass(frozen=True)
class LayerComparison:
    """FC1 and FC2 banded alone at one bandwidth; `gap` is FC1's final loss minus FC2's.

    `compared` judges the gap among those of all bandwidths (None with one seed).
    """

    bandwidth: str
    density: float
    fc1: Difference
    fc2: Difference
    gap: Sample
    compared: Comparison | None


@dataclass(frozen=True)
class Additivity:
    """A run with both bands; `excess` = Δboth − (Δfc1 + Δfc2) in nats, paired by seed.

    `compared` judges the excess among those of all such runs (None with one seed).
    """

    both: Arm
    delta_fc1: Sample
    delta_fc2: Sample
    delta_both: Sample
    excess: Sample
    compared: Comparison | None


@dataclass(frozen=True)
class SweetSpot:
    """Of the runs of one kind that remove something: the lowest density within the tolerance."""

    kind: str
    tried: tuple[Arm, ...]
    arm: Arm | None
    difference: Difference | None


def compare_layers(group: Group, outcomes: Outcomes) -> list[LayerComparison]:
    """Bandwidths at which FC1 alone and FC2 alone are done and remove something, widest first."""
    single = _single(group)
    base = group.baseline.name
    pairs_of_arms = {
        width: {one.name: 1.0, other.name: -1.0}
        for (matrix, width), one in single.items()
        if matrix == "fc1" and (other := single.get(("fc2", width))) and one.sparse
    }
    family = compare(outcomes, pairs_of_arms, final_value(outcomes, base))
    found = []
    widths = {width: arm.density for (_, width), arm in single.items()}
    for bandwidth in sorted(widths, key=lambda width: widths[width], reverse=True):
        fc1, fc2 = single.get(("fc1", bandwidth)), single.get(("fc2", bandwidth))
        if fc1 is None or fc2 is None or not (fc1.sparse and fc2.sparse):
            continue
        pairs = outcomes.paired(fc1.name, fc2.name)
        delta_fc1 = outcomes.difference(fc1.name, base)
        delta_fc2 = outcomes.difference(fc2.name, base)
        if not pairs or delta_fc1 is None or delta_fc2 is None:
            continue
        gap = Sample(tuple(one - other for one, other in pairs))
        compared = family.comparisons.get(bandwidth) if family else None
        found.append(LayerComparison(bandwidth, fc1.density, delta_fc1, delta_fc2, gap, compared))
    return found


def additivity(group: Group, outcomes: Outcomes) -> list[Additivity]:
    """Runs with both bands for which the two single ones exist, in the order of the matrix."""
    single, base = _single(group), group.baseline.name
    sums = {}
    for arm in group.arms:
        if kind(arm) == "FC1+FC2" and arm.sparse:
            fc1 = single.get(("fc1", arm.bands["fc1"].text))
            fc2 = single.get(("fc2", arm.bands["fc2"].text))
            if fc1 is not None and fc2 is not None:
                sums[arm.name] = (arm, fc1.name, fc2.name)
    excesses = {
        name: {name: 1.0, fc1: -1.0, fc2: -1.0, base: 1.0} for name, (_, fc1, fc2) in sums.items()
    }
    family = compare(outcomes, excesses, final_value(outcomes, base))
    found = []
    for arm, one_name, two_name in sums.values():
        rows = outcomes.paired(arm.name, one_name, two_name, base)
        if rows:
            found.append(
                Additivity(
                    arm,
                    Sample(tuple(one - base for _, one, _, base in rows)),
                    Sample(tuple(two - base for _, _, two, base in rows)),
                    Sample(tuple(both - base for both, _, _, base in rows)),
                    Sample(tuple(both - one - two + base for both, one, two, base in rows)),
                    family.comparisons.get(arm.name) if family else None,
                )
            )
    return found


def sweet_spots(group: Group, outcomes: Outcomes) -> list[SweetSpot]:
    """One for each kind of band; kinds without a finished run are left out."""
    found = []
    for name in dict.fromkeys(kind(a) for a in group.arms if a.sparse and not is_control(a)):
        tried = []
        for arm in group.arms:
            difference = outcomes.difference(arm.name, group.baseline.name)
            if arm.sparse and kind(arm) == name and difference is not None:
                tried.append((arm, difference))
        if not tried:
            continue
        near = [(arm, d) for arm, d in tried if d.percent <= SWEET_SPOT_PERCENT]
        best = min(near, key=lambda item: item[0].density, default=(None, None))
        found.append(SweetSpot(name, tuple(arm for arm, _ in tried), *best))
    return found


def _single(group: Group) -> dict[tuple[str, str], Arm]:
    """Arms with one band, by matrix and bandwidth; the first of equals."""
    found: dict[tuple[str, str], Arm] = {}
    for arm in group.arms:
        if len(arm.banded) == 1 and not is_control(arm):
            (name, band), *_ = arm.banded.items()
            found.setdefault((name, band.text), arm)
    return found
