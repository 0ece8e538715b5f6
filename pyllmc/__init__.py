"""pyllmc: train GPT-2-like models with structured sparsity and compare the runs.

Training from Python, on what `pyllmc model init` and `pyllmc data prepare` have written:

    import pyllmc

    trainer = pyllmc.Trainer("model.bin", "train.bin", batch_size=4, sequence_length=64,
                             fc1_bandwidth=64)
    losses = [trainer.step()["loss"] for _ in range(10)]
    loss_sum, tokens = trainer.evaluate("val.bin", max_batches=20)
    trainer.save("checkpoint.bin")
    tokenizer = pyllmc.Tokenizer("tokenizer.bin")
    ids = pyllmc.Model("checkpoint.bin").generate([tokenizer.eot], 40)
    print(loss_sum / tokens, tokenizer.decode(ids).decode(errors="replace"))

Importing it is cheap: the compiled core (`pyllmc._core`) is loaded by the first use of one of the
names below. The errors that it raises are those of `pyllmc.errors`; the command line is
`pyllmc.cli`.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyllmc._core import Model, Pattern, Tokenizer, TokenShards, Trainer

__all__ = ["Model", "Pattern", "TokenShards", "Tokenizer", "Trainer", "__version__"]
__version__ = "0.1.0"

# The core's threads sleep between parallel loops instead of spinning; read when it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pyllmc import _core

    value = globals()[name] = getattr(_core, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
