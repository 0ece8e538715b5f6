"""A band's controls in words: questions, their comparisons as a table, answers, the A/A check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyllmc.report import markdown as md
from pyllmc.report.comparisons import Verdict
from pyllmc.report.controls import AA, Control, Controls
from pyllmc.report.outcomes import Outcomes
from pyllmc.report.verdicts import method, verdict_text

_AA_INTRO = (
    "Under random initialization a band whose hidden units are renamed is the same model: any "
    "difference is noise. If the method above found one, it or the runs would be broken."
)
# The question, and an answer for each verdict.
_QUESTIONS: Mapping[str, tuple[str, Mapping[Verdict, str]]] = {
    "random": (
        "Is the band better than random places at equal density?",
        {
            Verdict.BETTER: "Yes: shown better",
            Verdict.WORSE: "No, random places are better: the band is shown worse",
            Verdict.NOT_SHOWN: "Not shown: nothing here says that the band's places matter",
        },
    ),
    "block": (
        "Is the band better than blocks at equal density?",
        {
            Verdict.BETTER: "Yes: shown better",
            Verdict.WORSE: "No, blocks are better: the band is shown worse",
            Verdict.NOT_SHOWN: "Not shown",
        },
    ),
    "narrower": (
        "Is the band better than a smaller dense MLP with as many weights?",
        {
            Verdict.BETTER: "Yes: shown better",
            Verdict.WORSE: "No, the smaller dense MLP is better: the band is shown worse",
            Verdict.NOT_SHOWN: "Not shown: a smaller dense MLP may do as well",
        },
    ),
    "low-rank": (
        "Is the band better than a low-rank MLP with as many weights?",
        {
            Verdict.BETTER: "Yes: shown better",
            Verdict.WORSE: "No, the low-rank MLP is better: the band is shown worse",
            Verdict.NOT_SHOWN: "Not shown",
        },
    ),
    "band-permuted-residual": (
        "Is locality what matters (the band against itself behind shuffled residual channels)?",
        {
            Verdict.BETTER: "Yes: breaking the locality is shown to cost",
            Verdict.WORSE: "No: without its locality the band is shown to be better",
            Verdict.NOT_SHOWN: "Not shown: breaking the locality made no difference that counts",
        },
    ),
    "init_scale": (
        "Is the band better when its first weights are scaled by 1/√density?",
        {
            Verdict.BETTER: "Yes: shown better",
            Verdict.WORSE: "No: shown worse",
            Verdict.NOT_SHOWN: "Not shown",
        },
    ),
    "wider": (
        "Is a wider MLP with a band better than the dense one with as many weights?",
        {
            Verdict.BETTER: "Yes: shown better",
            Verdict.WORSE: "No: shown worse",
            Verdict.NOT_SHOWN: "Not shown",
        },
    ),
}


def section(made: Controls | None, outcomes: Outcomes, what: str) -> list[str]:
    """The questions, their comparisons and answers, and the A/A check. `what` names the loss."""
    if made is None:
        return []
    seeds = len(outcomes.experiment.seeds)
    labels = made.labels
    blocks = ["## Controls"]
    if made.found:
        blocks += [
            meaning(made, what)
            + (
                " The ± is about the seeds: random places stand for the draws that were run."
                if any(c.question == "random" for c in made.found) and seeds > 1
                else ""
            ),
            md.table(*table_of(made, made.found, seeds)),
        ]
        if made.family is not None:
            names = {c.key: labels[c.band.name] for c in made.found}
            blocks += method(made.family, outcomes.experiment, names, what="Δ of the controls")
        blocks.append(md.bullets(answers(made, seeds)))
    if made.relabelled:
        blocks += ["### The same model under other names (A/A)", _AA_INTRO]
        rows = [
            [
                labels[c.band.name],
                " and ".join(labels[a.name] for a in c.others),
                *_difference(c, made, seeds),
            ]
            for c in made.relabelled
        ]
        header = ["Band", "Relabelled", "Δ (nats)", *(["Verdict"] if seeds > 1 else [])]
        blocks.append(md.table(header, rows))
        blocks.append(_aa_verdict(made, seeds))
    return blocks


def meaning(made: Controls, what: str) -> str:
    """What a difference of the table is. `what` names the loss."""
    return (
        f"Δ is the band's {what} minus the control's (several draws: their mean). Below 0 the band "
        "is better."
        + (" Every run is the one at its configuration's best rate." if made.tuned else "")
    )


def table_of(
    made: Controls, shown: Sequence[Control], seeds: int
) -> tuple[list[str], list[list[str]]]:
    """Header and rows, one a control."""
    header = ["Question", "Band", "Against", "MLP weights", "Δ (nats)"]
    rows = [
        [
            _QUESTIONS[c.question][0] if c.question != AA else "The same under other names (A/A)",
            made.labels[c.band.name],
            " and ".join(made.labels[a.name] for a in c.others),
            _size(c),
            *_difference(c, made, seeds),
        ]
        for c in shown
    ]
    return [*header, *(["Verdict"] if seeds > 1 else [])], rows


def answers(made: Controls | None, seeds: int) -> list[str]:
    """One sentence a question. With one seed they describe the runs."""
    if made is None:
        return []
    labels = {name: md.escape(label) for name, label in made.labels.items()}
    lines = []
    for question in dict.fromkeys(c.question for c in made.found):
        parts = []
        for control in (c for c in made.found if c.question == question):
            text = _answer(control, made)
            if text:
                parts.append(f"{labels[control.band.name]}: {text}")
        if parts:
            scope = " (one seed: these runs only)" if seeds < 2 else ""
            lines.append(f"{_QUESTIONS[question][0]}{scope} {'; '.join(parts)}.")
    return lines


def alarm(made: Controls | None) -> list[str]:
    """The banner over a report whose A/A comparison shows an effect."""
    if made is None or not made.broken:
        return []
    names = md.listed([md.escape(made.labels[c.others[0].name]) for c in made.broken])
    return [
        f"**The method or the runs are broken: {names} only renames the hidden units, and yet an "
        "effect is found (see [Controls](#controls)).** One report in twenty would say so by "
        "chance; until it is explained, no verdict here can be trusted."
    ]


def _answer(control: Control, made: Controls) -> str:
    compared = made.compared(control)
    if compared is None:
        gap = made.plain(control)
        if gap is None:
            return ""
        side = "lower" if gap < 0 else "higher"
        return "equal" if gap == 0 else f"the band ends {abs(gap):.4f} nats {side}"
    verdict = {
        Verdict.WORSE_WITHIN: Verdict.WORSE,
        Verdict.AS_GOOD: Verdict.NOT_SHOWN,
    }.get(compared.verdict, compared.verdict)
    text = _QUESTIONS[control.question][1][verdict]
    if compared.verdict is Verdict.AS_GOOD:
        return f"Neither: {compared.verdict}"
    if compared.half_width is None:
        return f"{text} ({verdict_text(compared)})"
    return f"{text} ({md.nats(compared.nats, compared.half_width)} nats)"


def _aa_verdict(made: Controls, seeds: int) -> str:
    if seeds < 2:
        return (
            "One seed: the difference is one draw of the noise between runs that are alike, and no "
            "measure of it."
        )
    if made.broken:
        return (
            "**The method or the runs are broken: an effect was found where there is none.** (By "
            "chance this happens in one report of twenty.) No verdict of this report can be "
            "trusted until it is explained."
        )
    return "No effect is found, as it must be."


def _difference(control: Control, made: Controls, seeds: int) -> list[str]:
    compared = made.compared(control)
    if compared is None:
        plain = md.nats(made.plain(control))
        return [plain, *(["-"] if seeds > 1 else [])]
    return [md.nats(compared.nats, compared.half_width), verdict_text(compared)]


def _size(control: Control) -> str:
    sizes = [control.band.mlp.weights, *(a.mlp.weights for a in control.others)]
    return " / ".join(dict.fromkeys(f"{size:,}" for size in sizes))
