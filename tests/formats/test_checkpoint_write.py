"""Writing checkpoints: the same bytes as llm.c's layout, all of them or none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from formats.llmc_files import NO_META, SMALL, checkpoint_file, random_tensors

from pyllmc import _core
from pyllmc.errors import UsageError, WriteError

META = {
    "step": 2**31 - 1,
    "fc1_bandwidth": 256,
    "fc2_bandwidth": 0,
    "init_seed": 2**32 - 1,
    "data_seed": 42,
}


def test_file_is_byte_for_byte_the_layout(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    _core.write_checkpoint(path, SMALL, random_tensors(SMALL))
    assert path.read_bytes() == checkpoint_file(SMALL)


def test_file_with_meta_is_byte_for_byte_the_layout(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    _core.write_checkpoint(path, SMALL | META | {"has_meta": True}, random_tensors(SMALL))
    assert path.read_bytes() == checkpoint_file(SMALL, **META)


@pytest.mark.parametrize("meta", [{}, {"step": 3}, META | {"has_meta": True}])
def test_written_file_reads_back_equal(meta: dict[str, int], tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    tensors = random_tensors(SMALL, seed=3)
    _core.write_checkpoint(path, SMALL | meta, tensors)
    header, read = _core.read_checkpoint(path)
    assert header == SMALL | NO_META | meta
    _core.write_checkpoint(tmp_path / "again.bin", header, read)
    assert (tmp_path / "again.bin").read_bytes() == path.read_bytes()


def test_arrays_of_another_order_and_type_are_converted(tmp_path: Path) -> None:
    tensors = random_tensors(SMALL)
    other: dict[str, Any] = {n: np.asfortranarray(t, np.float64) for n, t in tensors.items()}
    _core.write_checkpoint(tmp_path / "model.bin", SMALL, other)
    assert (tmp_path / "model.bin").read_bytes() == checkpoint_file(SMALL)


@pytest.mark.parametrize(
    ("header", "fragments"),
    [
        ({"vocab_size": 17}, ["V = 17", "Vp = 16"]),
        ({"num_heads": 3}, ["NH = 3"]),
        ({"channels": 0}, ["C = 0"]),
        ({"channels": 2**31}, ["C = 2147483648"]),
        ({"channels": 2**40}, ["C = 1099511627776"]),
        ({"channels": 2**31 - 1, "num_heads": 1, "num_layers": 2**31 - 1}, ["2^63"]),
        ({"channels": "four"}, ["channels", "'four'"]),
        ({"step": 2**31}, ["step is 2147483648"]),
        ({"step": -1}, ["step is -1"]),
        ({"has_meta": True, "fc1_bandwidth": -1}, ["fc1 bandwidth is -1"]),
        ({"has_meta": True, "fc2_bandwidth": 2**31}, ["fc2 bandwidth is 2147483648"]),
        ({"has_meta": True, "init_seed": 2**32}, ["init seed is 4294967296"]),
        ({"has_meta": True, "data_seed": -1}, ["data seed is -1"]),
        ({"fc1_bandwidth": 256}, ["has_meta"]),
        ({"bandwidth": 256}, ["'bandwidth': 256"]),
    ],
)
def test_header_that_cannot_be_written_is_refused(
    header: dict[str, Any], fragments: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        _core.write_checkpoint(tmp_path / "model.bin", SMALL | header, random_tensors(SMALL))
    assert all(fragment in str(caught.value) for fragment in fragments)
    assert list(tmp_path.iterdir()) == []


def test_header_without_a_dimension_is_refused(tmp_path: Path) -> None:
    header = {key: value for key, value in SMALL.items() if key != "num_heads"}
    with pytest.raises(UsageError, match="lacks num_heads"):
        _core.write_checkpoint(tmp_path / "model.bin", header, random_tensors(SMALL))


def test_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    tensors = random_tensors(SMALL)
    tensors["fcw"] = tensors["fcw"].transpose(0, 2, 1)
    with pytest.raises(UsageError, match=r"fcw has shape \(2, 4, 16\), expected \(2, 16, 4\)"):
        _core.write_checkpoint(tmp_path / "model.bin", SMALL, tensors)


def test_missing_and_unknown_tensors_are_refused(tmp_path: Path) -> None:
    tensors = random_tensors(SMALL)
    with pytest.raises(UsageError, match="17 tensors"):
        _core.write_checkpoint(tmp_path / "model.bin", SMALL, tensors | {"lm_head": np.zeros(1)})
    del tensors["qkvb"]
    with pytest.raises(UsageError, match="tensor qkvb is missing"):
        _core.write_checkpoint(tmp_path / "model.bin", SMALL, tensors)


def refuse_write(path: Path, reason: str) -> None:
    with pytest.raises(WriteError, match=reason) as caught:
        _core.write_checkpoint(path, SMALL, random_tensors(SMALL))
    assert str(path) in str(caught.value)


def test_missing_folder_is_a_write_error(tmp_path: Path) -> None:
    refuse_write(tmp_path / "missing" / "model.bin", "folder does not exist, make it first")


def test_file_in_the_place_of_a_folder_is_a_write_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    refuse_write(tmp_path / "file" / "model.bin", "Not a directory")
    assert (tmp_path / "file").read_text() == "kept"


def test_read_only_folder_is_a_write_error(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(0o500)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root writes everywhere
    try:
        refuse_write(folder / "model.bin", "Permission denied")
    finally:
        os.seteuid(user)


def test_folder_and_pipe_are_not_replaced(tmp_path: Path) -> None:
    refuse_write(tmp_path, "not a plain file")
    os.mkfifo(tmp_path / "pipe")
    refuse_write(tmp_path / "pipe", "not a plain file")
    assert (tmp_path / "pipe").is_fifo()


def test_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "model.bin").write_text("old")
    (tmp_path / "model.bin").symlink_to(tmp_path / "disk" / "model.bin")
    _core.write_checkpoint(tmp_path / "model.bin", SMALL, random_tensors(SMALL))
    assert (tmp_path / "model.bin").is_symlink()
    assert (tmp_path / "disk" / "model.bin").read_bytes() == checkpoint_file(SMALL)


def test_existing_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_text("old")
    path.chmod(0o604)
    _core.write_checkpoint(path, SMALL, random_tensors(SMALL))
    assert path.stat().st_mode & 0o777 == 0o604


def test_temporary_left_by_a_killed_process_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stale = tmp_path / f".model.bin.tmp-{os.getpid()}-0"
    stale.write_text("half")
    _core.write_checkpoint("model.bin", SMALL, random_tensors(SMALL))
    assert (tmp_path / "model.bin").read_bytes() == checkpoint_file(SMALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == [stale.name, "model.bin"]


# A limit on file sizes stands in for a full disk; Python ignores SIGXFSZ, so write() fails.
LIMITED_WRITE = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from formats.llmc_files import SMALL, random_tensors
from pyllmc import _core
from pyllmc.errors import WriteError
resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
try:
    _core.write_checkpoint(sys.argv[1], SMALL, random_tensors(SMALL))
except WriteError as error:
    print(error)
"""


def test_old_file_survives_a_write_that_fails_half_way(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    old = checkpoint_file(SMALL, seed=5)
    path.write_bytes(old)
    command = [sys.executable, "-c", LIMITED_WRITE, str(path), str(Path(__file__).parent.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"cannot write {path}: File too large" in done.stdout
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]
