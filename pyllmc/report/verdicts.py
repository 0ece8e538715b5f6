"""Comparisons over several seeds in words: verdicts, the method, and how weak a design is."""

from __future__ import annotations

from collections.abc import Mapping

from pyllmc.report import markdown as md
from pyllmc.report.comparisons import POWER, Comparison, Family, Verdict
from pyllmc.report.inputs import Experiment


def verdict_text(compared: Comparison | None) -> str:
    """The verdict, with the count of seeds where there is no interval; "-" for no comparison."""
    if compared is None:
        return "-"
    if compared.half_width is not None:
        return compared.verdict.value
    parts = [f"worse in {compared.worse}, better in {compared.better} of {compared.seeds} seeds"]
    if compared.diverged:
        parts.append(f"diverged in {compared.diverged}")
    if compared.other_diverged:
        parts.append(f"what it is compared with diverged in {compared.other_diverged}")
    return f"{compared.verdict.value} (by count: {', '.join(parts)})"


def headline(family: Family | None, labels: Mapping[str, str], baseline: str) -> list[str]:
    """One sentence with every verdict of a family; labels are those of its comparisons."""
    if family is None:
        return []
    parts = []
    for verdict in Verdict:
        names = family.having(verdict)
        if names:
            shown = [labels[name] for name in names]
            if any("," in label for label in shown):
                shown = [f"“{label}”" for label in shown]
            parts.append(f"{verdict.value}: {md.listed(shown)}")
    text = f"Over {family.seeds} seeds, against {baseline}: {'; '.join(parts)}."
    if family.smallest_shown is not None:
        text += (
            f" A difference below {family.smallest_shown:.4f} nats could not have been shown; a "
            f"true one of {family.detectable:.4f} nats would have been, with probability "
            f"{POWER:g}, for each run."
        )
    return [text]


def method(
    family: Family | None,
    experiment: Experiment,
    labels: Mapping[str, str],
    what: str | None = None,
) -> list[str]:
    """The paragraph under a table of comparisons: how its numbers were made, what they assume and
    what the design could have shown. `what` names the differences of a later table, for which the
    basics are not told again."""
    if experiment.one_seed:
        return []
    if family is None:
        return ["No seed has both the baseline and another run, so no difference could be judged."]
    m, found = len(family.comparisons), family.intervals
    if what is not None:
        return [_briefly(family, what)]
    parts = [
        "Final val loss: mean ± sample standard deviation over n seeds, with the t-based 95 % "
        "interval of the mean."
    ]
    if found is None:
        parts.append(
            "No interval could be made for a difference: too few runs finished. Verdicts count "
            "seeds (sign test)."
        )
    else:
        parts.append(
            "Differences: loss = run + seed + residual, fitted to all runs together, so that every "
            f"seed is a block; residual standard deviation {found.residual_sd:.4f} nats on "
            f"{_degrees(found.df)}. The ± of {_count(len(found.estimates))} hold "
            f"simultaneously at {100 * found.level:.4g} % (Dunnett; critical value "
            f"{found.critical:.3f}, multivariate t). Verdicts: shown better or worse where the "
            "interval leaves out 0, else not shown, which is not a proof of equality."
        )
        parts.append(_margin(experiment.margin))
        parts.append(
            f"**Smallest difference this design could have shown: {family.smallest_shown:.4f} "
            "nats**, observed (half the widest interval; a true difference of that size is found "
            f"about every other time); a true difference of {family.detectable:.4f} nats is found "
            f"with {100 * POWER:g} % power, for each comparison by itself."
        )
        parts.append(
            "Assumed: residuals independent, normal and equally large in every run; the seeds "
            "stand for those that could have been drawn; the data and the settings are these only."
        )
    wide = [labels[name] for name, c in family.comparisons.items() if c.own_spread]
    if wide:
        parts.append(
            f"{md.listed(wide)}: that run's losses, or those it is compared with, vary more over "
            f"the seeds than the others' (F tests at 5 % over all), so the ± is its own (paired t "
            f"at 0.05/{m})."
        )
    if any(c.half_width is None for c in family.comparisons.values()):
        parts.append(
            "A diverged run counts as infinitely bad: its differences have no mean and no "
            "interval, and are judged by the numbers of seeds in which they are above and below 0 "
            f"(two-sided sign test at 0.05/{m}; with {family.seeds} seeds the smallest "
            f"possible p is {2 * 0.5**family.seeds:.3g})."
        )
    if experiment.seeds and family.seeds <= 3:
        parts.append(_weak(family))
    return [" ".join(part for part in parts if part)]


def _briefly(family: Family, what: str) -> str:
    found = family.intervals
    if found is None:
        return f"{what}: no interval could be made; verdicts count seeds (sign test)."
    return (
        f"{what}: as under the summary, simultaneous at {100 * found.level:.4g} % over "
        f"{_count(len(found.estimates))} of this table (residual standard deviation "
        f"{found.residual_sd:.4f} nats on {_degrees(found.df)}, critical value "
        f"{found.critical:.3f}; smallest difference that could have been shown "
        f"{family.smallest_shown:.4f} nats, with {100 * POWER:g} % power {family.detectable:.4f})."
    )


def _weak(family: Family) -> str:
    text = f"**{'Two' if family.seeds == 2 else 'Three'} seeds are weak evidence:**"
    if family.intervals is not None and len(family.intervals.estimates) == 1:
        return (
            f"{text} the spread of the difference is estimated from {family.seeds} numbers, and "
            "the interval is as wide as it must be for that."
        )
    return (
        f"{text} whether the residuals are alike in every run, on which the intervals rest, cannot "
        "be checked, and the seeds' own spread is hardly known."
    )


def _margin(margin: float | None) -> str:
    if margin is None:
        return (
            'No margin was declared in the matrix file, so no run is called "as good as" another.'
        )
    return (
        f'"As good as": the interval ends below the margin of {margin:g} nats that the matrix file '
        "declares."
    )


def _degrees(df: int) -> str:
    return "one degree of freedom" if df == 1 else f"{df} degrees of freedom"


def _count(m: int) -> str:
    return "the one comparison" if m == 1 else f"all {m} comparisons"
