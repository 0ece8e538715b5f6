"""The learning rates of an experiment in words: tables of rates and of tuned differences, and what
tuning leaves of an advantage."""

from __future__ import annotations

from pyllmc.report import markdown as md
from pyllmc.report.comparisons import Family
from pyllmc.report.inputs import Experiment
from pyllmc.report.outcomes import Outcomes, State
from pyllmc.report.rates import Configuration, Tuned, Tuning
from pyllmc.report.verdicts import headline, method, verdict_text


def section(found: Tuning | None, experiment: Experiment, outcomes: Outcomes) -> list[str]:
    """The tables of rates, of differences at equal rates and of tuned differences."""
    if found is None:
        return []
    seeds = len(experiment.seeds)
    tuned = {t.configuration.label: t for t in found.others}
    best = {label: t.rate for label, t in tuned.items()}
    best[found.baseline.label] = found.baseline_rate
    edge = {label: t.at_edge for label, t in tuned.items()}
    edge[found.baseline.label] = found.baseline_at_edge
    everyone = (found.baseline, *(t.configuration for t in found.others), *found.unfinished)
    rows = []
    for c in everyone:
        cells = [_cell(c, rate, outcomes, seeds, rate == best.get(c.label)) for rate in found.rates]
        note = "the best rate is the last one tried: a better one may lie beyond"
        rows.append([c.label, *cells, note if edge.get(c.label) else ""])
    blocks = [
        "## Learning rate",
        "Final validation loss by learning rate; **bold**: the rate with the lowest mean, which is "
        "the configuration's best. A rate at which a seed diverged or is missing cannot be chosen.",
        md.table(["Config", *(f"{rate:g}" for rate in found.rates), "Note"], rows),
    ]
    if not found.others:
        return blocks
    where = "test loss" if found.on_test else "validation loss"
    text = (
        f"Differences to {md.escape(found.baseline.label)} in nats a token: at equal rates on the "
        "validation loss, and with each configuration at its own best rate on the " + where + "."
    )
    if not found.on_test:
        text += (
            " No test loss was logged for all of them: the loss that chose the rates also judges "
            "them here, which flatters whoever was tuned over more rates."
        )
    blocks += [text, md.table(*table_of(found, seeds))]
    labels = {t.configuration.label: t.configuration.label for t in found.others}
    blocks += method(found.family, experiment, labels, what="Δ tuned")
    lines = findings(found, seeds)
    return blocks + ([md.bullets(lines)] if lines else [])


def table_of(found: Tuning, seeds: int) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the differences at equal and at best rates, one row a configuration."""
    header = ["Config", *(f"Δ at {rate:g}" for rate in found.rates), "Best rates"]
    header += [f"Δ tuned ({'test' if found.on_test else 'validation'} loss)"]
    rows = [
        [
            t.configuration.label,
            *(t.single[rate].text if rate in t.single else "-" for rate in found.rates),
            f"{t.rate:g} against {found.baseline_rate:g}",
            *_tuned_cells(t, found.family, seeds),
        ]
        for t in found.others
    ]
    return [*header, *(["Verdict"] if seeds > 1 else [])], rows


def which_rate(found: Tuning, experiment: Experiment) -> str:
    """The sentence before findings at one rate."""
    rate = experiment.arm(experiment.baseline).settings.get("learning_rate")
    return (
        f"At learning rate {rate:g}, the first of {len(found.rates)}, unless another is named (see "
        "[Learning rate](#learning-rate)):"
    )


def in_short(found: Tuning) -> list[str]:
    """The verdicts of the tuned comparison in one sentence; none with one seed."""
    labels = {t.configuration.label: md.escape(t.configuration.label) for t in found.others}
    base = f"{md.escape(found.baseline.label)}, each at its best learning rate and on {found.what}"
    return headline(found.family, labels, base)


def findings(found: Tuning | None, seeds: int) -> list[str]:
    """What tuning leaves of every advantage at one rate, in sentences."""
    if found is None:
        return []
    base = md.escape(found.baseline.label)
    lines = []
    for t in found.others:
        name, gained = md.escape(t.configuration.label), []
        for rate, difference in t.single.items():
            if difference.better:
                gained.append(f"{rate:g} ({difference.number} nats)")
        if not gained or t.tuned is None:
            continue
        scope = "in these runs " if seeds < 2 else ""
        verdict = "" if t.tuned.compared is None else f", {t.tuned.compared.verdict}"
        tuned = f"{t.tuned.number} nats{verdict}"
        head = f"{name} is {scope}better than {base} at learning rate {md.listed(gained)}"
        if t.gain_is_tuning:
            lines.append(
                f"{head}, but not when each has its best rate ({tuned}): what looked "
                "like a gain is faster optimization at one untuned rate."
            )
        else:
            lines.append(f"{head}, and still when each has its best rate ({tuned}).")
    return lines


def _cell(
    configuration: Configuration, rate: float, outcomes: Outcomes, seeds: int, best: bool
) -> str:
    arm = configuration.arms.get(rate)
    if arm is None:
        return "-"
    diverged = sum(o.state is State.DIVERGED for o in outcomes.of(arm.name))
    if diverged:
        return "diverged" if seeds < 2 else f"diverged ({diverged} of {seeds})"
    text = md.mean_sd(outcomes.final(arm.name), seeds)
    return f"**{text}**" if best else text


def _tuned_cells(tuned: Tuned, family: Family | None, seeds: int) -> list[str]:
    compared = family.comparisons.get(tuned.configuration.label) if family else None
    if compared is not None:
        return [md.nats(compared.nats, compared.half_width), verdict_text(compared)]
    plain = "-" if tuned.tuned is None else md.nats(tuned.tuned.nats)
    return [plain, *(["-"] if seeds > 1 else [])]
