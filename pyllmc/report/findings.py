"""What the numbers say, in sentences. With one seed they describe the runs and claim no effect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pyllmc.report import markdown as md
from pyllmc.report.analysis import (
    SWEET_SPOT_PERCENT,
    Additivity,
    LayerComparison,
    SweetSpot,
    additivity,
    compare_layers,
    sweet_spots,
)
from pyllmc.report.arithmetic import arm_share
from pyllmc.report.comparisons import Comparison, Family, Verdict
from pyllmc.report.inputs import Experiment
from pyllmc.report.outcomes import Outcomes, Sample
from pyllmc.report.panels import Group, bandwidth_text, distinct_labels, is_control
from pyllmc.report.repeats import Repeat
from pyllmc.report.verdicts import headline, verdict_text


def in_short(
    group: Group, outcomes: Outcomes, repeats: Mapping[str, bool], family: Family | None
) -> list[str]:
    """The few sentences that the rest of the report spells out."""
    experiment = outcomes.experiment
    base = outcomes.final(group.baseline.name)
    if base is None:
        label = md.escape(group.baseline.label)
        return [f"{label} did not finish, so nothing can be compared with it."]
    seeds = len(experiment.seeds)
    step = max(o.last_step or 0 for o in outcomes.of(group.baseline.name))
    labels = _escaped(distinct_labels((group.baseline, *group.arms)))
    name = labels[group.baseline.name]
    lines = [f"{name} ends at {md.mean_sd(base, seeds)} nats a token (step {step})."]
    found = [
        (difference.nats.mean, arm, difference)
        for arm in group.arms
        if arm.sparse
        and not is_control(arm)
        and (difference := outcomes.difference(arm.name, group.baseline.name)) is not None
    ]
    if found:
        ordered = sorted(found, key=lambda item: item[0])
        ends = [("", ordered[0])]
        if len(ordered) > 1:
            ends = [("lowest ", ordered[0]), ("highest ", ordered[-1])]
        parts = []
        for word, (_, arm, difference) in ends:
            compared = family.comparisons.get(arm.name) if family else None
            change, share = md.difference(difference, compared)
            density = md.percent(arm.density)
            parts.append(f"{word}{labels[arm.name]} ({change} nats, {share}, at {density} density)")
        lines.append(f"Final losses of the runs with a band: {', '.join(parts)}.")
    lines += headline(family, labels, name)
    layers = compare_layers(group, outcomes)
    if layers:
        lines.append(_layer_headline(layers, experiment.one_seed))
    sums = additivity(group, outcomes)
    if sums:
        lines.append(_additivity_headline(sums, labels, seeds))
    spots = sweet_spots(group, outcomes)
    if spots:
        lines.append(_sweet_headline(spots))
    same = [labels[arm.name] for arm in group.arms if repeats.get(arm.name)]
    if same:
        lines.append(
            f"{md.listed(same)} keep{'s' if len(same) == 1 else ''} every weight: identical to "
            f"{name} in every loss, no finding."
        )
    return lines


def analysis(group: Group, outcomes: Outcomes) -> list[str]:
    """Layers, additivity and sweet spots with their tables."""
    blocks: list[str] = []
    seeds = len(outcomes.experiment.seeds)
    layers = compare_layers(group, outcomes)
    if layers:
        rows = [
            [
                row.bandwidth,
                md.percent(row.density),
                md.nats(row.fc1.nats.mean),
                md.nats(row.fc2.nats.mean),
                *_tested(row.gap, row.compared, seeds),
                _lower(row.gap),
            ]
            for row in layers
        ]
        header = ["BW", "Density", "Δ FC1 alone", "Δ FC2 alone", "FC1 − FC2"]
        header += [*(["FC1 is"] if seeds > 1 else []), "Lower loss"]
        blocks += [
            "### Which layer tolerates a band better?",
            "FC1 and FC2 with the same bandwidth keep the same number of weights. Nats a token:",
            md.table(header, rows),
            _layer_headline(layers, outcomes.experiment.one_seed),
        ]
    sums = additivity(group, outcomes)
    if sums:
        labels = distinct_labels(group.arms)
        rows = [
            [
                labels[row.both.name],
                md.percent(row.both.density),
                md.nats(row.delta_fc1.mean),
                md.nats(row.delta_fc2.mean),
                md.signed(row.delta_fc1.mean + row.delta_fc2.mean),
                md.nats(row.delta_both.mean),
                *_tested(row.excess, row.compared, seeds),
            ]
            for row in sums
        ]
        header = ["Config", "Density", "Δ FC1", "Δ FC2", "Sum", "Δ both", "Δ both − sum"]
        header += ["Than the sum"] if seeds > 1 else []
        blocks += [
            "### Do the two bands add up?",
            "Δ both − (Δ FC1 + Δ FC2) in nats a token: 0 if the two costs add, above 0 if the two "
            "bands together are worse than their sum.",
            md.table(header, rows),
            _additivity_headline(sums, _escaped(labels), seeds),
        ]
    spots = sweet_spots(group, outcomes)
    if spots:
        labels = distinct_labels((group.baseline, *group.arms))
        rows = []
        for spot in spots:
            tried = ", ".join(md.percent(a.density) for a in spot.tried)
            if spot.arm is None:
                rows.append([spot.kind, tried, "none", "-", "-"])
                continue
            change = md.difference(spot.difference)[1]
            rows.append(
                [spot.kind, tried, labels[spot.arm.name], md.percent(spot.arm.density), change]
            )
        header = ["Band on", "Densities tried", "Sweet spot", "Density", "Δ"]
        blocks += [
            "### Sweet spot",
            f"The rule: of the runs that finished, the lowest density whose final loss is at most "
            f"{SWEET_SPOT_PERCENT:g} % above the baseline's.",
            md.table(header, rows),
        ]
    return blocks


def repeats_text(checks: Iterable[Repeat]) -> list[str]:
    """The runs whose band keeps everything, checked against the baseline."""
    checks = list(checks)
    if not checks:
        return []
    lines = []
    for check in checks:
        seed = "" if check.seed is None else f", seed {check.seed}"
        head = f"{md.escape(check.arm.label)}{seed}:"
        baseline = md.escape(check.baseline.label)
        if check.difference:
            lines.append(f"{head} **NOT identical to {baseline}: {check.difference}.**")
            continue
        full = (
            f" and all {check.full_values:,} in full precision"
            if check.full_values
            else " (no .jsonl of both is there to compare in full precision)"
        )
        same = f"identical to {baseline} in all {check.values:,} logged losses"
        lines.append(f"{head} {same}{full}.")
    broken = any(check.difference for check in checks)
    verdict = (
        "**Something is wrong.** A dense run was made twice and gave different numbers. Either the "
        "runs were not made alike (program, initial weights, data), or the training is not "
        "reproducible; find out which before using any number above."
        if broken
        else "They are repeats of the baseline, show no effect of sparsity, and are left out of "
        "the findings. Being identical, they give no noise level either."
    )
    return [
        "### Runs whose band keeps everything",
        "Their computation is the baseline's, so every loss must be the same to the last bit.",
        md.bullets(lines),
        verdict,
    ]


def expectations(experiment: Experiment, outcomes: Outcomes) -> list[str]:
    """Each prediction of the matrix file beside what was measured."""
    if not experiment.expectations:
        return []
    rows = []
    for item in experiment.expectations:
        difference = outcomes.difference(item.arm, item.against)
        labels = distinct_labels(experiment.arms)
        low, high = item.low_percent, item.high_percent
        if difference is None:
            missing = [
                labels[n] for n in (item.arm, item.against) if outcomes.final(n) is None
            ] or [labels[item.arm]]
            measured, verdict = "-", f"cannot be judged: no comparable {md.listed(missing)}"
        else:
            arm = experiment.arm(item.arm)
            measured = (
                f"{labels[item.arm]} is {md.signed(difference.percent, 2)} % against "
                f"{labels[item.against]}, with {md.percent(arm.density)} of the banded weights and "
                f"{md.percent(arm_share(experiment, arm))} of the model's multiply-adds"
            )
            if low is not None and difference.percent < low:
                verdict = "not as expected: below the range"
            elif high is not None and difference.percent > high:
                verdict = "not as expected: above the range"
            else:
                verdict = "as expected"
            verdict += (
                " (one seed)" if experiment.one_seed else f" (mean of {difference.nats.n} seeds)"
            )
        rows.append([item.text, _range(low, high), measured, verdict])
    header = ["Expectation", "Range of Δ", "Measured", "Verdict"]
    return ["## Expectations", "As the matrix file states them.",
            md.table(header, rows)]  # fmt: skip


def _tested(sample: Sample, compared: Comparison | None, seeds: int) -> list[str]:
    """A difference, and with several seeds its verdict."""
    if compared is None:
        return [md.nats(sample.mean), *(["-"] if seeds > 1 else [])]
    return [md.nats(compared.nats, compared.half_width), verdict_text(compared)]


def _shown(compared: Comparison | None) -> str:
    if compared is None:
        return ""
    return ", not shown" if compared.verdict in (Verdict.NOT_SHOWN, Verdict.AS_GOOD) else ", shown"


def _escaped(labels: dict[str, str]) -> dict[str, str]:
    """Labels for running text; tables escape their own cells."""
    return {name: md.escape(label) for name, label in labels.items()}


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high:+g} %"
    if high is None:
        return f"at least {low:+g} %"
    return f"{low:+g} % to {high:+g} %"


def _lower(gap: Sample) -> str:
    if gap.mean == 0:
        return "equal"
    return "FC2" if gap.mean > 0 else "FC1"


def _layer_headline(rows: list[LayerComparison], one_seed: bool) -> str:
    scope = "in these runs" if one_seed else "on average over the seeds"
    parts = []
    for layer, other in (("FC1", "FC2"), ("FC2", "FC1")):
        won = [row for row in rows if _lower(row.gap) == layer]
        if won:
            where = [
                f"{row.bandwidth} (by {abs(row.gap.mean):.4f} nats{_shown(row.compared)})"
                for row in won
            ]
            every = "every bandwidth tried: " if len(won) == len(rows) > 1 else "bandwidth "
            parts.append(f"{layer} ends lower than {other} at {every}{md.listed(where)}")
    if not parts:
        return f"At equal density FC1 and FC2 end at the same loss {scope}."
    return f"At equal density, {scope}, {'; '.join(parts)}."


def _additivity_headline(rows: list[Additivity], labels: dict[str, str], seeds: int) -> str:
    parts = []
    for row in rows:
        side = "above" if row.excess.mean > 0 else "below"
        amount = f"{abs(row.excess.mean):.4f} nats {side}" if row.excess.mean else "exactly"
        parts.append(f"{labels[row.both.name]} is {amount} it{_shown(row.compared)}")
    scope = "" if seeds < 2 else " (means over the seeds)"
    return f"Both layers banded, against the sum of each alone: {'; '.join(parts)}{scope}."


def _sweet_headline(spots: list[SweetSpot]) -> str:
    parts = []
    for spot in spots:
        if spot.arm is None:
            parts.append(f"{spot.kind} none")
        else:
            width, density = bandwidth_text(spot.arm), md.percent(spot.arm.density)
            parts.append(f"{spot.kind} {width} ({density})")
    return (
        f"Lowest density within {SWEET_SPOT_PERCENT:g} % of the baseline's final loss: "
        f"{', '.join(parts)}."
    )
