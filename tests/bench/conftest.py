"""Measuring at sizes where the figures mean nothing."""

from __future__ import annotations

import pytest

from pyllmc.bench import machine


@pytest.fixture(autouse=True)
def _small_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's peak measured on little memory and for a short time."""
    monkeypatch.setattr(machine, "_BYTES", 1 << 20)
    monkeypatch.setattr(machine, "_SECONDS", 0.002)
