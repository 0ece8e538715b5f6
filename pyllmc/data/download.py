"""One large file over HTTP: resumed after a break, checked for length and sha256."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from pyllmc.errors import FormatError, PyllmcError, UsageError, WriteError
from pyllmc.files import atomic_write, file_sha256
from pyllmc.terminal import Progress, say

TIMEOUT_S = 30.0
# Pauses before another attempt; an attempt that brought bytes starts the list again.
RETRY_AFTER_S = (1.0, 2.0, 4.0, 8.0)
_BLOCK = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass
class _State:
    """What is known of a file, kept beside it as <file>.download.json."""

    url: str
    validator: str | None = None  # ETag or date: tells whether the server's file is still the same
    bytes: int | None = None
    announced_sha256: str | None = None
    sha256: str | None = None  # of the finished file


class DownloadError(PyllmcError):
    """The server could not be reached or did not send the whole file."""


class _Broken(Exception):
    """An attempt that failed in a way that another may mend."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Keeps the headers of redirects: the hub announces a file's hash there, not at the end."""

    def __init__(self) -> None:
        self.headers: list[Message] = []

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        self.headers.append(headers)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(url: str, path: Path, *, sha256: str | None = None) -> str:
    """Fetch `url` into `path` unless a file is there already; returns the file's sha256.

    A break is retried, and a later call goes on where an earlier one ended, as long as the server
    still has the same file. The sha256 must be `sha256` when given, else the one that the server
    announced, if any. Raises DownloadError when the server does not deliver, FormatError when the
    hash is wrong (a download is then removed), WriteError when the disk is full.
    """
    if urlsplit(url).scheme not in ("http", "https", "file"):
        raise UsageError(f"{url!r} is not an http, https or file address")
    if sha256 is not None and not _SHA256.fullmatch(sha256 := sha256.lower()):
        raise UsageError(f"--sha256 {sha256!r} is not a sha256: 64 hexadecimal digits")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    if path.exists() and not _state_path(path).exists():
        say(f"using {path}, which is already there.")
        return _checked(path, [(sha256, "was asked for with --sha256")], "remove it")
    state = _load_state(path, url)
    if path.exists() and state.sha256 is not None:
        if (found := file_sha256(path)) == state.sha256:
            say(f"using {path}, which is already downloaded.")
            return _checked(path, [(sha256, "was asked for with --sha256")], "remove it", found)
        say(f"{path} is not what was downloaded: fetching it again.")
    _fetch_with_retries(state, path, partial)
    wanted = [
        (sha256, "was asked for with --sha256"),
        (state.announced_sha256, "was announced by the server"),
    ]
    try:
        state.sha256 = _checked(partial, wanted, f"what {url} sent is removed")
    except FormatError:
        partial.unlink()
        _state_path(path).unlink(missing_ok=True)
        raise
    _save_state(path, state)
    os.replace(partial, path)
    return state.sha256


def remove_download(path: Path) -> None:
    """Remove a file that was downloaded, not one that a person put there."""
    if _state_path(path).exists():
        path.unlink(missing_ok=True)
        _state_path(path).unlink()


def _checked(
    path: Path, wanted: list[tuple[str | None, str]], advice: str, found: str | None = None
) -> str:
    """The sha256 of a file, after comparing it with the first hash of `wanted` that is known."""
    found = found or file_sha256(path)
    for expected, how in wanted:
        if expected is not None:
            if found != expected:
                raise FormatError(
                    f"{path} has sha256 {found}, but {expected} {how}: {advice}, then check the "
                    "address and the hash and try again"
                )
            break
    return found


def _fetch_with_retries(state: _State, path: Path, partial: Path) -> None:
    pauses = list(RETRY_AFTER_S)
    while True:
        before = partial.stat().st_size if partial.exists() else 0
        try:
            _fetch(state, path, partial)
            return
        except _Broken as broken:
            have = partial.stat().st_size if partial.exists() else 0
            if have > before:
                pauses = list(RETRY_AFTER_S)
            if not pauses:
                raise DownloadError(
                    f"the download of {state.url} broke off with {have:,} bytes here ({broken}; "
                    "the same command goes on from there)"
                ) from broken
            say(f"{broken}: trying again, {have:,} bytes are here.")
            time.sleep(pauses.pop(0))


def _fetch(state: _State, path: Path, partial: Path) -> None:
    """One attempt; on return `partial` is complete."""
    have = partial.stat().st_size if partial.exists() else 0
    if have and state.bytes == have:
        return
    request = urllib.request.Request(state.url)
    if have and state.validator is not None:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", state.validator)
    redirects = _Redirects()
    try:
        response = urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:  # the file there is shorter than what is here
                partial.unlink()
                raise _Broken("the server's file changed") from error
            if error.code >= 500 or error.code == 429:
                raise _Broken(f"the server answered {error.code} {error.reason}") from error
            raise DownloadError(f"{state.url} answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if have:
            raise _Broken(f"no connection ({reason})") from error
        raise DownloadError(f"could not reach {state.url} ({reason})") from error
    with response:
        offset = _read_headers(state, response, redirects.headers, partial, have)
        _save_state(path, state)
        _append(state, response, partial, offset)


def _read_headers(
    state: _State, response: Any, redirects: list[Message], partial: Path, have: int
) -> int:
    """Note what the server says of its file; returns the offset at which its answer begins."""
    headers = response.headers
    offset = 0
    validator = headers.get("ETag") or headers.get("Last-Modified")
    if validator is not None and validator.startswith("W/"):  # not good for ranges (RFC 9110)
        validator = None
    length = headers.get("Content-Length")
    total = int(length) if length is not None and length.isdigit() else None
    if getattr(response, "status", None) == 206:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
        total = int(span[2]) if span and span[2] != "*" else state.bytes
        if (
            span is None
            or int(span[1]) != have
            or (validator, total)
            != (
                state.validator,
                state.bytes,
            )
        ):
            partial.unlink()
            raise _Broken("the server's file changed or it cannot resume")
        offset = have
    state.validator, state.bytes = validator, total
    answers = [*redirects, headers]
    # The hub names the sha256 of a large file in X-Linked-ETag, other stores in ETag itself.
    tags = [source.get(key, "") for key in ("X-Linked-ETag", "ETag") for source in answers]
    hashes = [tag.strip('"') for tag in tags if _SHA256.fullmatch(tag.strip('"'))]
    state.announced_sha256 = hashes[0] if hashes else None
    return offset


def _append(state: _State, response: Any, partial: Path, offset: int) -> None:
    title = f"downloading {urlsplit(state.url).netloc or 'a local file'}"
    if state.bytes is not None:
        free = shutil.disk_usage(partial.parent).free
        if free < state.bytes - offset:
            raise WriteError(
                f"{partial.parent} has {free:,} bytes free, the download needs "
                f"{state.bytes - offset:,}: make room or choose another --out-dir"
            )
    done = offset
    try:
        with partial.open("ab" if offset else "wb") as stream, Progress(title, state.bytes) as bar:
            while block := _read_block(response):
                stream.write(block)
                done += len(block)
                bar.update(done)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise WriteError(
            f"could not write {partial} ({error.strerror}): check the free space"
        ) from error
    if state.bytes is not None and done < state.bytes:
        raise _Broken(f"the connection ended at {done:,} of {state.bytes:,} bytes")
    if state.bytes is not None and done > state.bytes:
        partial.unlink()
        raise _Broken(f"the server sent {done:,} bytes and had announced {state.bytes:,}")


def _read_block(response: Any) -> bytes:
    try:
        return response.read(_BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(f"the connection broke ({error})") from error


def _state_path(path: Path) -> Path:
    return path.with_name(path.name + ".download.json")


def _load_state(path: Path, url: str) -> _State:
    """What was noted of an earlier download of the same address, else a fresh start."""
    with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
        state = _State(**json.loads(_state_path(path).read_bytes()))
        if state.url == url:
            return state
    # What lies here came from another address.
    path.with_name(path.name + ".part").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    return _State(url)


def _save_state(path: Path, state: _State) -> None:
    atomic_write(_state_path(path), json.dumps(asdict(state), indent=2) + "\n")
