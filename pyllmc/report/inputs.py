"""What a report is made of. Plain values: whoever calls has read the files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Band:
    """How much of one weight matrix a bandwidth keeps (0 = dense).

    `bandwidth` is one number, or one a layer; `kept` and `total` are of one layer, or the sums over
    that many `layers`.
    """

    bandwidth: int | tuple[int, ...]
    kept: int
    total: int
    layers: int = 1

    @property
    def asked(self) -> bool:
        """True unless every layer was asked to be dense."""
        return self.bandwidth != 0

    @property
    def text(self) -> str:
        """ "256", or "1024,512,512,256" by layer."""
        widths = self.bandwidth if isinstance(self.bandwidth, tuple) else (self.bandwidth,)
        return ",".join(map(str, widths))

    @property
    def density(self) -> float:
        """Kept share, 0 to 1."""
        return self.kept / self.total

    @property
    def keeps_all(self) -> bool:
        """True when nothing is removed, whatever the bandwidth is called."""
        return self.kept == self.total


@dataclass(frozen=True)
class Mlp:
    """The kind of an arm's MLP: what makes it a control for the band.

    `pattern` places the entries that the bandwidths pay for ("band", "random", "block",
    "band-permuted-residual", "band-permuted-hidden"; `mask_seed` names the draw). `shape` is what
    the MLP is beside the others' ("" as theirs, "narrower", "wider", "low-rank"). `weights` counts
    the weights kept in the MLPs of all layers, `stored` those of a dense product, `band_macs`
    the multiply-adds a token where bands are multiplied alone, as pyllmc.models.shape counts them
    (0: unknown).
    """

    pattern: str = "band"
    mask_seed: int | None = None
    shape: str = ""
    weights: int = 0
    stored: int = 0
    band_macs: float = 0.0


@dataclass(frozen=True)
class Arm:
    """A run of the matrix, as it was asked for.

    `settings` are the matrix's (train_banded's long names), without what depends on the seed.
    `data` names the token files. `bands` holds one entry for each matrix that may be banded
    ("fc1", "fc2"); empty for models that have none. `mlp` says how the MLP differs from the plain
    banded one.
    """

    name: str
    label: str
    baseline: str
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    bands: Mapping[str, Band]
    mlp: Mlp = Mlp()

    @property
    def banded(self) -> dict[str, Band]:
        """The bands that were asked for, keeping everything or not."""
        return {name: band for name, band in self.bands.items() if band.asked}

    @property
    def sparse(self) -> bool:
        """True when a band removes something."""
        return any(not band.keeps_all for band in self.bands.values())

    @property
    def density(self) -> float:
        """Kept share of the matrices that have a band; 1 for a dense run."""
        bands = self.banded.values()
        total = sum(band.total for band in bands)
        return sum(band.kept for band in bands) / total if total else 1.0


@dataclass(frozen=True)
class Trial:
    """One arm under one seed, as it happened.

    `log` names its log, `settings` is the run's own settings line (empty: none was found).
    `record` is what the runner, or else the log's end line, says became of it: "done" and
    "diverged" are results, "changed" means that the log was written to after its run had ended,
    "unrecorded" that only the losses can tell; anything else is a run that did not end.
    `message` is the runner's sentence about it. `alone` is whether it had its `machine` to itself
    (None: unknown); `seconds` the time it had trained by each step that was logged, validation and
    sampling apart.
    """

    arm: str
    seed: int | None
    log: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    record: str = "unrecorded"
    message: str = ""
    alone: bool | None = None
    machine: str = ""
    seconds: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """One published number: the validation loss of a run at a step."""

    step: int
    arm: str
    value: float
    note: str = ""


@dataclass(frozen=True)
class Expectation:
    """A prediction: `arm` ends `low_percent` to `high_percent` above `against` (None: open)."""

    text: str
    arm: str
    against: str
    low_percent: float | None
    high_percent: float | None


@dataclass(frozen=True)
class Experiment:
    """Everything a report says or computes from.

    `losses` and `full_losses` are tables of pyllmc.logs (at the log's precision, and in full from
    .jsonl; the latter may hold fewer runs). `architecture` has max_seq_len, vocab_size,
    num_layers, num_heads, channels, padded_vocab_size, hidden, mlp_rank (0: full matrices) and
    parameters; `architecture_source` says where it was read. `provenance` is printed as it is:
    nothing in it may differ between two reports of the same files. `margin` (nats a token), where
    the matrix file declared one, is by how much a run may be worse and still count as as good.
    """

    title: str
    description: str
    questions: tuple[str, ...]
    baseline: str
    arms: tuple[Arm, ...]
    seeds: tuple[int | None, ...]
    trials: tuple[Trial, ...]
    losses: pd.DataFrame
    full_losses: pd.DataFrame
    architecture: Mapping[str, int]
    architecture_source: str
    expectations: tuple[Expectation, ...] = ()
    published: tuple[Published, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    margin: float | None = None

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    @property
    def one_seed(self) -> bool:
        """True when nothing can be said about the spread over seeds."""
        return len(self.seeds) < 2
