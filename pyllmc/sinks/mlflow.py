"""An MLflow store in one sqlite file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from pyllmc.sinks.runs import RunLog
from pyllmc.sinks.sink import Point

# MLflow takes no more in one call.
_METRICS, _PARAMS = 1000, 100
_STATUS = {"done": "FINISHED", "failed": "FAILED", "diverged": "FAILED", "unrecorded": "FINISHED"}


def open_sink(name: str, out: Path) -> Store:
    """Raises ImportError without mlflow or what its sqlite store needs."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow = import_module("mlflow")
    import_module("sqlalchemy"), import_module("alembic")
    return Store(mlflow.MlflowClient(tracking_uri=f"sqlite:///{out.resolve()}/mlflow.db"), out)


class Store:
    """An MLflow experiment a group in `out`/mlflow.db."""

    def __init__(self, client: Any, out: Path) -> None:
        self._client = client
        self._artifacts = (out.resolve() / "artifacts").as_uri()

    def open(self, run: RunLog, name: str, key: str | None) -> StoredRun:
        client = self._client
        if key is not None:
            client.update_run(key, status="RUNNING")
            return StoredRun(client, key)
        experiment = client.get_experiment_by_name(run.group)
        number = (
            client.create_experiment(run.group, artifact_location=self._artifacts)
            if experiment is None
            else experiment.experiment_id
        )
        made = client.create_run(number, int(1000 * run.started), run_name=name)
        entities = import_module("mlflow.entities")
        params = [entities.Param(name, str(value)) for name, value in run.config.items()]
        for i in range(0, len(params), _PARAMS):
            client.log_batch(made.info.run_id, params=params[i : i + _PARAMS])
        return StoredRun(client, made.info.run_id)


class StoredRun:
    """`key` is MLflow's run id."""

    def __init__(self, client: Any, key: str) -> None:
        self.key = key
        self._client = client

    def log(self, points: Sequence[Point]) -> None:
        entities = import_module("mlflow.entities")
        metrics = [
            entities.Metric(name, value, int(1000 * when), step)
            for step, values, when in points
            for name, value in values.items()
        ]
        for i in range(0, len(metrics), _METRICS):
            self._client.log_batch(self.key, metrics=metrics[i : i + _METRICS])

    def end(self, status: str, step: int, time: float) -> None:
        self._client.set_tag(self.key, "state", status)
        told = _STATUS.get(status, "KILLED")
        self._client.set_terminated(self.key, told, end_time=int(1000 * time))

    def close(self) -> None:
        pass
