from pathlib import Path
from types import SimpleNamespace

import pytest
from apps.lab import Lab, make_lab


@pytest.fixture
def lab(tmp_path: Path, programs: SimpleNamespace) -> Lab:
    return make_lab(tmp_path, programs)
