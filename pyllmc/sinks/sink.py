"""What every tracker is to the rest: a folder in which runs are opened, logged to and ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pyllmc.errors import UsageError, WriteError

if TYPE_CHECKING:
    from pyllmc.sinks.runs import RunLog, Values


class Point(NamedTuple):
    """What a run measured at a step, and when (seconds since 1970)."""

    step: int
    values: Values
    time: float


class TrackedRun(Protocol):
    """A run as it stands open in a tracker. `key` is what opens it again."""

    key: str

    def log(self, points: Sequence[Point]) -> None:
        """Adds points, steps ascending; they are in the tracker's files when this returns."""

    def end(self, status: str, step: int, time: float) -> None:
        """Notes the state in which the run's cell is now, at its last step."""

    def close(self) -> None:
        """Gives the tracker's files back, whether the run has ended or goes on later."""


class Sink(Protocol):
    """A tracker's files in one folder."""

    def open(self, run: RunLog, name: str, key: str | None) -> TrackedRun:
        """Begins `run` under `name`, or with the key of an earlier opening goes on with it."""


@dataclass(frozen=True)
class _Kind:
    needs: tuple[str, ...]  # modules
    module: str
    look: str  # the command that shows the folder {out}


_KINDS = {
    "tensorboard": _Kind(("tensorboardX",), "tensorboard", "tensorboard --logdir {out}"),
    "mlflow": _Kind(
        ("mlflow", "sqlalchemy", "alembic"),  # what its sqlite store is made of
        "mlflow",
        "mlflow ui --backend-store-uri sqlite:///{out}/mlflow.db (of the full mlflow package)",
    ),
    "wandb": _Kind(("wandb",), "wandb_shaped", "wandb sync {out}/wandb/offline-run-*"),
    "trackio": _Kind(("trackio",), "wandb_shaped", "TRACKIO_DIR={out} trackio show"),
}
SINKS = tuple(_KINDS)


def look(name: str, out: Path) -> str:
    """The command that shows what the sink has written."""
    return _KINDS[name].look.format(out=out)


def require_installed(names: Sequence[str], option: str) -> None:
    """Raises UsageError for a tracker whose package is missing; imports none."""
    for name in names:
        for module in _KINDS[name].needs:
            if find_spec(module) is None:
                raise _missing(name, module, option)


def open_sink(name: str, out: Path) -> Sink:
    """The tracker's files in `out`, which is there. Raises UsageError when its package is missing
    or cannot be imported, WriteError when it cannot be opened."""
    try:
        module = import_module(f"pyllmc.sinks.{_KINDS[name].module}")
        sink: Sink = module.open_sink(name, out)
    except ImportError as error:
        raise _missing(name, error.name or str(error), "--to") from error
    except Exception as error:  # whatever the tracker raises
        told = " ".join(str(error).split())
        raise WriteError(f"{name} could not be opened in {out}: {told}") from error
    return sink


def _missing(name: str, module: str, option: str) -> UsageError:
    return UsageError(
        f"{option} {name} needs {module}, which is not installed: pip install 'pyllmc[{name}]'"
    )
