"""What a band saves of the whole model's arithmetic, not of one matrix's."""

from __future__ import annotations

from collections.abc import Mapping

from pyllmc.report.inputs import Arm, Experiment


def forward_share(experiment: Experiment, dropped: float) -> float:
    """Multiply-adds of a forward pass without `dropped` weights a layer, as a share of all.

    A token needs 4 C² a layer in attention's matrices, 2 H C a layer in the MLP (of rank r:
    2 r (H + C)), (T + 1) C a layer in causal attention (scores and mix, each over (T + 1) / 2
    positions on average), and C V in the output head.
    """
    shape = experiment.architecture
    c, length = shape["channels"], _sequence_length(experiment)
    layer = 4 * c * c + _mlp_weights(shape) + (length + 1) * c
    dense = shape["num_layers"] * layer + c * shape["vocab_size"]
    return 1 - shape["num_layers"] * dropped / dense


def arm_share(experiment: Experiment, arm: Arm) -> float:
    """`forward_share` of an arm's MLPs."""
    shape = experiment.architecture
    return forward_share(experiment, _mlp_weights(shape) - arm.mlp.weights / shape["num_layers"])


def _mlp_weights(shape: Mapping[str, int]) -> int:
    """Weights of a layer's dense MLP."""
    c, hidden, rank = shape["channels"], shape["hidden"], shape["mlp_rank"]
    return 2 * rank * (hidden + c) if rank else 2 * hidden * c


def _sequence_length(experiment: Experiment) -> int:
    for trial in experiment.trials:
        settings = {**experiment.arm(trial.arm).settings, **trial.settings}
        if settings.get("sequence_length"):
            return int(settings["sequence_length"])
    return experiment.architecture["max_seq_len"]
