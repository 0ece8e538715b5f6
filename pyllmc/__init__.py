"""pyllmc: train GPT-2-like models with structured sparsity and compare the runs.

Importing it is cheap: the compiled core is `pyllmc._core`, the command line `pyllmc.cli`.
"""

import os

__version__ = "0.1.0"

# The core's threads sleep between parallel loops instead of spinning; read when it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
