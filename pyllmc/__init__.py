"""pyllmc: train GPT-2-like models with structured sparsity and compare the runs.

Importing it is cheap: the compiled core is `pyllmc._core`, the command line `pyllmc.cli`.
"""

import importlib.util
import os
from pathlib import Path

__version__ = "0.1.0"


def _name_openblas() -> None:
    """Tells the core, and the programs started from here, where the matrix library lies.

    The core opens the library named by PYLLMC_OPENBLAS; a value that is already set stays, and an
    empty one asks for the built-in matrix product.
    """
    spec = importlib.util.find_spec("scipy_openblas32")
    if spec is None or spec.origin is None:
        return
    library = Path(spec.origin).parent / "lib" / "libscipy_openblas.so"
    if library.is_file():
        os.environ.setdefault("PYLLMC_OPENBLAS", str(library))


_name_openblas()

# The core's threads sleep between parallel loops instead of spinning; read when it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
