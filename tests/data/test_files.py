"""Writing aside and renaming, and reading JSON (pyllmc/files.py)."""

import errno
import os
import stat

import pytest

from pyllmc.errors import FormatError, WriteError
from pyllmc.files import atomic_write, atomic_writer, read_json_object


def test_whole_file_appears_under_its_name_and_nothing_else_stays(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    atomic_write(path, "dé\n")
    assert path.read_bytes() == b"d\xc3\xa9\n"
    assert os.listdir(path.parent) == ["a.txt"]


def test_the_header_can_be_patched_at_the_end(tmp_path):
    with atomic_writer(tmp_path / "a.bin") as stream:
        stream.write(b"\0\0body")
        stream.seek(0)
        stream.write(b"HD")
    assert (tmp_path / "a.bin").read_bytes() == b"HDbody"


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
def test_a_failing_block_leaves_the_old_file_and_no_temporary(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half():
        with atomic_writer(path) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_nothing_is_visible_under_the_name_before_the_end(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_writer(path) as stream:
        stream.write(b"half")
        stream.flush()
        assert not path.exists()


def test_a_full_disk_is_a_write_error_that_names_the_file(tmp_path):
    with (
        pytest.raises(WriteError, match=r"a\.txt .*No space left"),
        atomic_writer(tmp_path / "a.txt"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert os.listdir(tmp_path) == []


def test_an_unreadable_input_inside_the_block_is_not_called_a_write_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_writer(tmp_path / "a.txt"):
        (tmp_path / "missing.txt").read_bytes()


def test_a_folder_in_the_way_is_a_write_error(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(WriteError, match="could not write"):
        atomic_write(tmp_path / "a.txt", b"x")
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_permissions_of_a_replaced_file_are_kept(tmp_path):
    path = tmp_path / "run.sh"
    path.write_text("old")
    path.chmod(0o750)
    atomic_write(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o750


def test_a_json_object_is_read_and_a_missing_file_is_none(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, "é"]}')
    assert read_json_object(tmp_path / "a.json") == {"a": [1, "é"]}
    assert read_json_object(tmp_path / "b.json") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b'{"a": 1', "is not JSON"),
        (b'{"a": "\xff"}', "is not JSON"),
        (b"[" * 200_000, "is not JSON"),
        (b"[1]", "holds no JSON object"),
    ],
    ids=["empty", "cut", "not-utf8", "too-deep", "a-list"],
)
def test_what_is_no_json_object_is_refused_with_the_advice(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message) as error:
        read_json_object(path, "give a new folder")
    assert str(error.value).startswith(f"{path} ")
    assert str(error.value).endswith("; give a new folder")


def test_a_folder_in_the_place_of_a_json_file_is_refused(tmp_path):
    with pytest.raises(FormatError, match=r"cannot be read: Is a directory$"):
        read_json_object(tmp_path)
