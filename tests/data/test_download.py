"""Downloading from a server on localhost (pyllmc/data/download.py)."""

import hashlib
import json
import os

import pytest
from data.local_server import LocalServer

from pyllmc.data import download as download_module
from pyllmc.data.download import DownloadError, download, remove_download
from pyllmc.errors import FormatError, UsageError, WriteError

BODY = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(download_module, "RETRY_AFTER_S", (0.0, 0.0))


@pytest.fixture
def server():
    with LocalServer(BODY) as server:
        yield server


@pytest.fixture
def path(tmp_path):
    return tmp_path / "archive.tar.gz"


def test_the_file_and_its_hash_arrive(server, path):
    assert download(server.url, path) == SHA256
    assert path.read_bytes() == BODY


def test_a_second_call_asks_the_server_nothing(server, path):
    download(server.url, path)
    assert download(server.url, path) == SHA256
    assert len(server.requests) == 1


def test_a_broken_connection_goes_on_where_it_ended(server, path):
    server.break_after = [300_000, 400_000]
    assert download(server.url, path) == SHA256
    assert path.read_bytes() == BODY
    assert [r.get("range") for r in server.requests] == [None, "bytes=300000-", "bytes=700000-"]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server, path):
    server.break_after = [500_000, 0, 0]
    with pytest.raises(DownloadError, match="500,000 bytes here"):
        download(server.url, path)
    assert not path.exists()
    assert download(server.url, path) == SHA256
    assert server.requests[-1]["range"] == "bytes=500000-"
    assert sorted(os.listdir(path.parent)) == [path.name, f"{path.name}.download.json"]


def test_a_file_that_changed_between_two_parts_is_fetched_whole(server, path):
    server.break_after = [500_000, 0, 0]
    with pytest.raises(DownloadError):
        download(server.url, path)
    server.body, server.etag = b"new" + BODY[::-1], '"2"'
    download(server.url, path)
    assert path.read_bytes() == server.body


@pytest.mark.parametrize("etag", [None, 'W/"1"'], ids=["no etag", "weak etag"])
def test_without_a_sure_sign_of_sameness_the_download_starts_over(server, path, etag):
    server.etag = etag
    server.break_after = [300_000]
    assert download(server.url, path) == SHA256
    assert "range" not in server.requests[1]


def test_a_busy_server_is_asked_again(server, path):
    server.statuses = [503, 429]
    assert download(server.url, path) == SHA256


def test_a_part_that_the_server_cannot_continue_is_thrown_away(server, path):
    server.break_after = [300_000, 0, 0]
    with pytest.raises(DownloadError):
        download(server.url, path)
    server.statuses = [416]
    assert download(server.url, path) == SHA256
    assert "range" not in server.requests[-1]


def test_a_missing_file_is_said_at_once(server, path):
    server.statuses = [404]
    with pytest.raises(DownloadError, match="404"):
        download(server.url, path)
    assert len(server.requests) == 1


def test_an_unreachable_server_is_said(path):
    with pytest.raises(DownloadError, match="could not reach"):
        download("http://127.0.0.1:9/archive.tar.gz", path)


def test_the_hash_announced_on_the_redirect_is_noted(server, path):
    server.announce(BODY)
    assert download(server.url, path) == SHA256
    state = json.loads(path.with_name(f"{path.name}.download.json").read_text())
    assert state["announced_sha256"] == SHA256


def test_a_wrong_announced_hash_removes_what_was_sent(server, path):
    server.announce(b"something else")
    with pytest.raises(FormatError, match="was announced"):
        download(server.url, path)
    assert os.listdir(path.parent) == []


def test_an_etag_that_is_a_sha256_counts_as_announced(server, path):
    server.etag = f'"{"0" * 64}"'
    with pytest.raises(FormatError, match="0000 was announced"):
        download(server.url, path)


def test_a_hash_asked_for_overrules_the_announced_one(server, path):
    server.announce(b"something else")
    assert download(server.url, path, sha256=SHA256.upper()) == SHA256


def test_another_hash_than_asked_for_is_refused(server, path):
    with pytest.raises(FormatError, match=r"asked for with --sha256"):
        download(server.url, path, sha256="0" * 64)
    assert os.listdir(path.parent) == []


def test_a_download_that_was_changed_is_fetched_again(server, path):
    download(server.url, path)
    path.write_bytes(b"other")
    assert download(server.url, path) == SHA256
    assert path.read_bytes() == BODY


def test_a_file_that_a_person_put_there_is_used_and_not_removed(server, path):
    path.write_bytes(b"mine")
    assert download(server.url, path) == hashlib.sha256(b"mine").hexdigest()
    assert server.requests == []
    remove_download(path)
    assert path.exists()
    with pytest.raises(FormatError, match="asked for"):
        download(server.url, path, sha256=SHA256)


def test_another_address_does_not_continue_the_old_part(server, path):
    server.break_after = [300_000, 0, 0]
    with pytest.raises(DownloadError):
        download(server.url, path)
    server.etag = '"other file, same server"'
    download(f"{server.url}?other", path)
    assert "range" not in server.requests[-1]
    assert path.read_bytes() == BODY


def test_a_file_address_works(tmp_path, path):
    (tmp_path / "source").write_bytes(BODY)
    assert download((tmp_path / "source").as_uri(), path) == SHA256


def test_too_little_space_is_said_before_anything_is_written(server, path, monkeypatch):
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(WriteError, match="1,000 bytes free"):
        download(server.url, path)


@pytest.mark.parametrize(
    ("url", "sha256"), [("ftp://a/b", None), ("http://a/b", "xyz")], ids=["scheme", "sha256"]
)
def test_senseless_settings_are_refused(path, url, sha256):
    with pytest.raises(UsageError):
        download(url, path, sha256=sha256)
