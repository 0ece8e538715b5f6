"""An MLflow store in one sqlite file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from pyllmc.sinks.runs import RunLog

LOOK = "mlflow ui --backend-store-uri sqlite:///{out}/mlflow.db (of the full mlflow package)"
# MLflow takes no more in one call.
_METRICS, _PARAMS = 1000, 100
_STATUS = {"done": "FINISHED", "failed": "FAILED", "diverged": "FAILED", "running": "RUNNING",
           "unrecorded": "FINISHED"}  # fmt: skip


def write(runs: Iterable[RunLog], out: Path) -> None:
    """An experiment a group in `out`/mlflow.db."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow, entities = import_module("mlflow"), import_module("mlflow.entities")
    import_module("sqlalchemy"), import_module("alembic")  # what its sqlite store is made of
    out.mkdir(parents=True, exist_ok=True)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{out.resolve()}/mlflow.db")
    experiments: dict[str, str] = {}
    for run in runs:
        if run.group not in experiments:
            place = (out.resolve() / "artifacts").as_uri()
            experiments[run.group] = client.create_experiment(run.group, artifact_location=place)
        started, finished = int(1000 * run.started), int(1000 * run.finished)
        made = client.create_run(
            experiments[run.group], started, tags={"state": run.status}, run_name=run.name
        )
        identifier = made.info.run_id
        metrics = [
            entities.Metric(name, value, int(1000 * run.time(step)), step)
            for step, values in run.points
            for name, value in values.items()
        ]
        params = [entities.Param(name, str(value)) for name, value in run.config.items()]
        for i in range(0, len(params), _PARAMS):
            client.log_batch(identifier, params=params[i : i + _PARAMS])
        for i in range(0, len(metrics), _METRICS):
            client.log_batch(identifier, metrics=metrics[i : i + _METRICS])
        status = _STATUS.get(run.status, "KILLED")
        if status != "RUNNING":
            client.set_terminated(identifier, status, end_time=finished)
