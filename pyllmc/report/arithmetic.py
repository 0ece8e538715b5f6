"""Multiply-adds of an experiment's whole models, not of one matrix."""

from __future__ import annotations

from pyllmc.models.shape import forward_macs, mlp_weights
from pyllmc.report.inputs import Arm, Experiment


def model_macs(experiment: Experiment, mlp: float, sequence_length: int) -> float:
    """Multiply-adds a token of a forward pass, `mlp` of them in the MLPs of all layers."""
    shape = experiment.architecture
    return forward_macs(
        channels=shape["channels"],
        layers=shape["num_layers"],
        sequence_length=sequence_length,
        vocab=shape["vocab_size"],
        mlp=mlp,
    )


def forward_share(experiment: Experiment, dropped: float) -> float:
    """Multiply-adds of a forward pass without `dropped` weights a layer, as a share of all."""
    dense = model_macs(experiment, _dense_mlps(experiment), _sequence_length(experiment))
    return 1 - experiment.architecture["num_layers"] * dropped / dense


def arm_share(experiment: Experiment, arm: Arm) -> float:
    """`forward_share` of an arm's MLPs."""
    dropped = _dense_mlps(experiment) - arm.mlp.weights
    return forward_share(experiment, dropped / experiment.architecture["num_layers"])


def _dense_mlps(experiment: Experiment) -> int:
    """Weights of all layers' dense MLPs."""
    shape = experiment.architecture
    return shape["num_layers"] * mlp_weights(shape["channels"], shape["hidden"], shape["mlp_rank"])


def _sequence_length(experiment: Experiment) -> int:
    for trial in experiment.trials:
        settings = {**experiment.arm(trial.arm).settings, **trial.settings}
        if settings.get("sequence_length"):
            return int(settings["sequence_length"])
    return experiment.architecture["max_seq_len"]
