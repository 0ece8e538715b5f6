"""Controls on synthetic losses: questions answered, the A/A alarm, silence without an effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from report.synthetic import SEEDS, SETTINGS, Losses, arm, build

from pyllmc.report import controls
from pyllmc.report.comparisons import Verdict, against
from pyllmc.report.inputs import Arm, Experiment, Mlp
from pyllmc.report.outcomes import Outcomes
from pyllmc.report.panels import groups
from pyllmc.report.readme import render

ARMS = (
    arm("dense"), arm("band", 32), arm("random 1", 32, "random"),
    arm("random 2", 32, "random", draw=2), arm("shuffled", 32, "band-permuted-residual"),
    arm("renamed", 32, "band-permuted-hidden"), arm("narrow", shape="narrower"),
    arm("low", shape="low-rank"), arm("wide", 32, shape="wider"),
)  # fmt: skip


def experiment(losses: Losses, arms: Sequence[Arm] = ARMS, **more: Any) -> Experiment:
    return build(losses, arms, **more)


def drawn(effects: Mapping[str, float], noise: float = 0.001, key: int = 0) -> Losses:
    """Losses with seeds far apart and little noise beside them, plus an effect an arm."""
    rng = np.random.default_rng(key)
    seeds = rng.normal(2.0, 0.1, len(SEEDS))
    return {
        a.name: (seeds + effects.get(a.name, 0.0) + rng.normal(0, noise, len(SEEDS))).tolist()
        for a in ARMS
    }


def judged(made: Experiment) -> controls.Controls:
    found = controls.controls(groups(made)[0], Outcomes(made))
    assert found is not None
    return found


def verdicts(made: Experiment) -> dict[str, Verdict]:
    found = judged(made)
    compared = {c.question: found.compared(c) for c in (*found.found, *found.relabelled)}
    return {question: c.verdict for question, c in compared.items() if c is not None}


def text(made: Experiment) -> str:
    return render(made, Outcomes(made), {})


LOCAL = dict.fromkeys(("band", "renamed"), 0.01) | {
    "random 1": 0.05, "random 2": 0.07, "shuffled": 0.06, "narrow": -0.02, "low": 0.01,
    "wide": -0.03,
}  # fmt: skip


def test_questions_are_answered_by_their_own_comparison() -> None:
    assert verdicts(experiment(drawn(LOCAL))) == {
        "random": Verdict.BETTER, "narrower": Verdict.WORSE, "low-rank": Verdict.NOT_SHOWN,
        "band-permuted-residual": Verdict.BETTER, "wider": Verdict.BETTER,
        "band-permuted-hidden": Verdict.NOT_SHOWN,
    }  # fmt: skip
    report = text(experiment(drawn(LOCAL)))
    short = report.split("## In short")[1].split("\n## ")[0]
    assert "better than random places at equal density? band: Yes: shown better (-0.0" in short
    assert "No, the smaller dense MLP is better: the band is shown worse (+0.02" in short
    assert "Is locality what matters" in short
    assert "Yes: breaking the locality is shown to cost" in short
    assert "No effect is found, as it must be." in report
    assert "broken" not in report.split("### The same model")[0]


def test_without_locality_the_answer_turns() -> None:
    effects = LOCAL | {"random 1": 0.0, "random 2": 0.0, "shuffled": 0.01}
    found = verdicts(experiment(drawn(effects)))
    assert found["random"] is Verdict.WORSE
    assert found["band-permuted-residual"] is Verdict.NOT_SHOWN


def test_several_draws_are_compared_by_their_mean() -> None:
    made = experiment(drawn(LOCAL, noise=1e-6))
    found = judged(made)
    (control,) = [c for c in found.found if c.question == "random"]
    compared = found.compared(control)
    assert [a.name for a in control.others] == ["random 1", "random 2"]
    assert compared is not None
    assert compared.estimate == pytest.approx(0.01 - (0.05 + 0.07) / 2, abs=1e-5)


def test_weights_that_are_not_equal_are_no_control() -> None:
    far = arm("far", shape="narrower")
    far = Arm(**{**vars(far), "mlp": Mlp("band", None, "narrower", 2500, 2500)})
    arms = (arm("dense"), arm("band", 32), far)
    losses = {name: values for name, values in drawn({}).items() if name in ("dense", "band")}
    made = experiment({**losses, "far": losses["dense"]}, arms)
    assert controls.controls(groups(made)[0], Outcomes(made)) is None


ALARM = "> **The method or the runs are broken: renamed only renames the hidden units"


@pytest.mark.parametrize("effect", [0.02, -0.02])
def test_an_effect_in_the_relabelled_arm_is_loud(effect: float) -> None:
    report = text(experiment(drawn(LOCAL | {"renamed": 0.01 + effect})))
    assert ALARM in report.split("\n## ")[0]
    section = report.split("### The same model under other names (A/A)")[1].split("\n## ")[0]
    assert "**The method or the runs are broken: an effect was found where there" in section


def test_no_alarm_without_an_effect() -> None:
    assert "The method or the runs are broken" not in text(experiment(drawn(LOCAL)))


def test_one_seed_claims_nothing() -> None:
    losses = {name: values[:1] for name, values in drawn(LOCAL | {"renamed": 0.5}).items()}
    report = text(experiment(losses, seeds=(1,)))
    assert "broken" not in report.split("### The same model")[0]
    assert "(one seed: these runs only) band: the band ends 0.0" in report
    assert "and no measure of it" in report
    assert not any(f"| {verdict.value}" in report for verdict in Verdict)


def test_without_any_effect_verdicts_are_not_shown_19_times_in_20() -> None:
    wrong = {"baseline": 0, "controls": 0, "relabelled": 0}
    runs = 200
    for key in range(runs):
        made = experiment(drawn({}, key=key))
        outcomes, group = Outcomes(made), groups(made)[0]
        family = against(outcomes, [a.name for a in group.arms], "dense")
        found = controls.controls(group, outcomes)
        assert family is not None
        assert found is not None
        for name, one in (
            ("baseline", family), ("controls", found.family), ("relabelled", found.aa),
        ):  # fmt: skip
            assert one is not None
            wrong[name] += len(one.having(Verdict.NOT_SHOWN)) < len(one.comparisons)
    # 5 % of 200 is 10; three standard deviations are 9.
    assert all(1 <= count <= 19 for count in wrong.values()), wrong


def test_as_good_as_needs_a_declared_margin() -> None:
    losses = drawn({"band": 0.002}, noise=0.0005)
    assert "as good as, within" not in text(experiment(losses))
    report = text(experiment(losses, margin=0.01))
    summary = report.split("## Summary")[1].split("\n## ")[0]
    assert "| shown worse, by less than the margin |" in summary
    assert "| as good as, within the margin" in summary
    assert "below the margin of 0.01 nats that the matrix file declares" in summary


def test_a_diverged_seed_is_judged_by_count() -> None:
    losses = {name: list(values) for name, values in drawn(LOCAL).items()}
    losses["random 1"][2] = float("nan")
    made = experiment(losses)
    found = judged(made)
    (control,) = [c for c in found.found if c.question == "random"]
    compared = found.compared(control)
    assert compared is not None
    assert (compared.half_width, compared.better, compared.other_diverged) == (None, 5, 1)
    assert compared.verdict is Verdict.NOT_SHOWN
    assert (
        "not shown (by count: worse in 0, better in 5 of 5 seeds, "
        "what it is compared with diverged in 1)"
    ) in text(made)
    # The others keep their intervals.
    assert verdicts(made)["band-permuted-residual"] is Verdict.BETTER


def test_controls_stay_out_of_the_bands_own_findings() -> None:
    report = text(experiment(drawn(LOCAL)))
    spots = report.split("### Sweet spot")[1].split("\n## ")[0]
    assert "random" not in spots
    assert "| FC1+FC2 " in spots


def test_a_control_with_other_settings_is_none() -> None:
    scaled = replace(arm("scaled", 32), settings={**SETTINGS, "init_scale": "inverse-sqrt-density"})
    arms = (*ARMS, scaled)
    losses = {**drawn(LOCAL), "scaled": [2.5, 2.4, 2.6, 2.5, 2.3]}
    found = judged(experiment(losses, arms))
    assert [(c.question, [a.name for a in c.others]) for c in found.found if c.band == scaled] == [
        ("init_scale", ["band"])
    ]
    assert [c.band.name for c in found.relabelled] == ["band"]
    assert "The method or the runs are broken" not in text(experiment(losses, arms))


def test_with_a_rate_axis_the_best_rates_are_compared() -> None:
    """Random is behind at the first rate only; renamed is taken at the band's own rate."""
    rates = (1e-4, 1e-3)
    arms = [
        replace(
            one,
            name=f"{one.name} {rate:g}",
            label=f"{one.name}, lr {rate:g}",
            baseline=f"dense {rate:g}",
            settings={**one.settings, "learning_rate": rate},
        )
        for one in (ARMS[0], ARMS[1], ARMS[2], ARMS[5])
        for rate in rates
    ]
    rng = np.random.default_rng(3)
    means = {"random 1 0.0001": 2.9, "random 1 0.001": 2.3, "dense 0.001": 2.4, "band 0.001": 2.4}
    losses = {
        a.name: (means.get(a.name, 2.5) + rng.normal(0, 0.001, len(SEEDS))).tolist() for a in arms
    }
    losses["renamed 0.0001"] = [x - 0.2 for x in losses["band 0.001"]]
    losses["renamed 0.001"] = [x + 0.001 for x in losses["band 0.001"]]
    report = text(experiment(losses, arms))
    section = report.split("## Controls")[1].split("\n## ")[0]
    assert "best rate" in section
    assert "No, random places are better" in section
    assert "renamed, lr 0.001" in section
    assert "No effect is found" in section
