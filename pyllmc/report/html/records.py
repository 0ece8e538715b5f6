"""Configuration and provenance of every run, as its own files tell it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyllmc.report.html.inputs import Cell
from pyllmc.report.html.tables import facts, table, text
from pyllmc.report.outcomes import Outcome, Outcomes
from pyllmc.report.panels import distinct_labels

_LONGEST = 20_000
# Said in the heading, or of use to the runner only.
_PLUMBING = {"schema", "cell", "run", "seed", "process_start", "boot_id", "pid", "updated"}


def run_records(outcomes: Outcomes, cells: Sequence[Cell]) -> str:
    """One folded block a run: what became of its seeds, how it was configured, what made it."""
    by_cell = {(cell.arm, cell.seed): cell for cell in cells}
    labels = distinct_labels(outcomes.experiment.arms)
    parts = ["<section>\n<h2>Every run</h2>"]
    for arm in outcomes.experiment.arms:
        found = outcomes.of(arm.name)
        own = {o.trial.seed: _facts(o, by_cell.get((arm.name, o.trial.seed))) for o in found}
        states = ", ".join(dict.fromkeys(o.state.value for o in found))
        parts.append(
            f'<details class="run"><summary><b>{text(labels[arm.name])}</b> '
            f"{text(arm.name)}: {text(states)}</summary>"
            f"{_happened(found, by_cell)}{facts(_merged(own))}</details>"
        )
    return "\n".join([*parts, "</section>"])


def _happened(found: Sequence[Outcome], cells: Mapping[tuple[str, int | None], Cell]) -> str:
    rows = []
    for outcome in found:
        trial = outcome.trial
        cell = cells.get((trial.arm, trial.seed))
        seed = "-" if trial.seed is None else str(trial.seed)
        for state in cell.earlier if cell else ():
            rows.append(_row(seed, state, str(state.get("state")), state.get("message")))
        state = cell.state if cell else {}
        last = {**state, "step": state.get("step") or outcome.last_step}
        why = outcome.why or last.get("message")
        rows.append(_row(seed, last, outcome.state.value, why))
    header = ["Seed", "Attempt", "State", "Step", "Started", "Finished", "Host", "Why"]
    return table(header, rows)


def _row(seed: str, state: Mapping[str, Any], became: str, why: object) -> list[str]:
    told = [state.get(key) for key in ("attempt", "step", "started", "finished", "host")]
    attempt, step, *rest = ["-" if value is None else str(value) for value in told]
    return [seed, attempt, became, step, *rest, str(why or "-")]


def _facts(outcome: Outcome, cell: Cell | None) -> dict[str, str]:
    """Everything known about a run by a dotted name."""
    found = {"log": outcome.trial.log}
    for head, values in (
        ("", _unfolded(cell.record) if cell else {}),
        ("state", cell.state if cell else {}),
        ("run's own settings", outcome.trial.settings),
    ):
        found.update(_flat(head, values))
    return found


def _unfolded(record: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of the configuration beside the other facts."""
    rest = {key: value for key, value in record.items() if key != "configuration"}
    return {**(record.get("configuration") or {}), **rest}


def _flat(head: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if head or key not in _PLUMBING:
                if head == "state" and key in _PLUMBING:
                    continue
                yield from _flat(f"{head} {key}".strip(), inner)
    elif head == "command" and isinstance(value, (list, tuple)):
        yield head, shlex.join(map(str, value))
    elif value not in (None, "", [], ()):
        written = value if isinstance(value, str) else json.dumps(value, default=str)
        cut = f"\n… ({len(written):,} characters in all)" if len(written) > _LONGEST else ""
        yield head, written[:_LONGEST] + cut


def _merged(own: Mapping[int | None, Mapping[str, str]]) -> list[tuple[str, str]]:
    """One row a name; where the seeds differ, one line a seed."""
    rows = []
    for name in dict.fromkeys(name for values in own.values() for name in values):
        values = {seed: found.get(name, "-") for seed, found in own.items()}
        if len(set(values.values())) == 1:
            rows.append((name, next(iter(values.values()))))
        else:
            rows.append((name, "\n".join(f"seed {seed}: {v}" for seed, v in values.items())))
    return rows
