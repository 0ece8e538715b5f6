"""What of long curves a table and a chart show; the README and the page crop alike."""

from __future__ import annotations

import math

import pytest

from pyllmc.report.excerpt import after_start, table_steps
from pyllmc.report.html.curves import frame, spread


def test_a_table_keeps_the_first_and_the_last_step() -> None:
    assert table_steps(range(21)) == list(range(21))
    shown = table_steps(range(0, 1000, 10))
    assert (shown[0], shown[-1], len(shown)) == (0, 990, 21)
    assert shown == sorted(set(shown))


@pytest.mark.parametrize(
    ("step", "shown"), [(0, False), (100, False), (200, True), (2000, True)], ids=str
)
def test_a_chart_leaves_out_the_first_tenth(step: int, shown: bool) -> None:
    """Of 21 validations the first two, the second being at 5 % of the steps."""
    curve = {at: 9.0 if at == step else 2.0 for at in range(0, 2001, 100)}
    other = dict.fromkeys(curve, 3.0)
    found = after_start([(list(c), list(c.values()), list(c.values())) for c in (curve, other)])
    assert found is not None
    assert (found[1] > 9) == shown
    assert found == tuple(frame([spread([curve]), spread([other])]) or ())


def test_a_chart_of_few_points_leaves_out_the_first_or_none() -> None:
    def top(*values: float) -> float:
        found = after_start([(range(len(values)), values, values)])
        assert found is not None
        return found[1]

    assert top(9.0, 2.0) > 9
    assert top(9.0, 2.0, 1.0) < 3


def test_a_frame_may_hold_zero_and_what_is_finite_alone() -> None:
    values = [math.inf, 2.0, math.nan, 3.0]
    assert after_start([(range(4), values, values)]) == pytest.approx((1.94, 3.06))
    assert after_start([(range(4), values, values)], around_zero=True) == pytest.approx(
        (-0.18, 3.18)
    )
    assert after_start([(range(2), values[::2], values[::2])]) is None
    assert after_start([]) is None
