"""Fetch detector weights once into a cache folder, verified; shared by the detectors.

pooch and torch.hub take no bound on bytes or on the time of all, nor a git blob's digest: hence our own.
The folder is `MDS_CACHE`, by default `mds-deepfake` in the user's cache (`XDG_CACHE_HOME` or ~/.cache).
"""

import hashlib
import http.client
import os
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from utils.cli import legible

TIMEOUT_S = 30  # without a byte
MIN_BYTES_PER_S = 50_000  # on the whole
BLOCK_BYTES = 1 << 16


class WeightsError(Exception):
    """Weights are missing or wrong; the text is one line that says what to do."""


@dataclass(frozen=True)
class WeightsFile:
    """A published weights file: its name, where it can be had, and what pins its content.

    `at_most` bounds its size in bytes.
    `digest` is "sha256:<hex>" or "git:<hex>", the latter a git blob id (SHA-1 over "blob <size>\\0" +
    content).
    """

    name: str
    sources: tuple[str, ...]
    digest: str
    at_most: int = 100_000_000


def cache_folder() -> Path:
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mds-deepfake"
    return Path(os.environ.get("MDS_CACHE") or default).expanduser()


def matches(path: Path, digest: str) -> bool:
    """Whether the file's content has the digest (format: `WeightsFile`)."""
    kind, expected = digest.split(":")
    if kind == "git":
        hasher = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    else:
        hasher = hashlib.new(kind)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest() == expected


def deadline_s(n_bytes: int) -> float:
    """The time that a download of so many bytes may take."""
    return 2 * TIMEOUT_S + n_bytes / MIN_BYTES_PER_S


def download(url: str, target: Path, at_most: int) -> None:
    """Copy a URL's content to `target` with a progress bar.

    Raises:
        WeightsError: a failed or cut transfer, more than `at_most` bytes, or more time than `deadline_s`; on
            one line.
    """
    limit_s, failures, is_over = deadline_s(at_most), [], threading.Event()

    def work() -> None:
        try:
            transfer(url, target, at_most, is_over)
        except WeightsError as error:
            failures.append(error)

    # it may wait for ever, byte by byte, even for the header
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(limit_s)
    is_late = thread.is_alive()
    is_over.set()
    if is_late:
        raise WeightsError(f"it took more than {limit_s:.0f} s")
    if failures:
        raise failures[0]


def transfer(url: str, target: Path, at_most: int, is_over: threading.Event) -> None:
    """`download`, without a deadline, until `is_over`."""
    got = 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, target.open("wb") as file:
            is_page = response.headers.get_content_type() == "text/html"
            size = response.headers.get("Content-Length")
            n_bytes = int(size) if size else None
            name = url.rsplit("/", 1)[-1]
            with tqdm(total=n_bytes, unit="B", unit_scale=True, desc=name) as progress:
                while max(got, n_bytes or 0) <= at_most and (block := response.read1(BLOCK_BYTES)):
                    if is_over.is_set():
                        return
                    file.write(block)
                    got += len(block)
                    progress.update(len(block))
    except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is an OSError
        words = f"{getattr(error, 'reason', None) or error or type(error).__name__}"
        code = f"{error.code} " if isinstance(error, urllib.error.HTTPError) else ""
        raise WeightsError(legible(code + words)[:200]) from error
    if max(got, n_bytes or 0) > at_most:
        raise WeightsError(f"it sends more than the {at_most:,} bytes that the file may have")
    if n_bytes is not None and got != n_bytes:
        raise WeightsError(f"the connection was cut after {got} of {n_bytes} bytes")
    if is_page:
        raise WeightsError("a web page came instead of the weights")


def sweep_partials(weights: WeightsFile) -> None:
    """Remove what killed processes left of downloads of this file."""
    name = re.compile(rf"\.{re.escape(weights.name)}\.[0-9]+\.tmp")
    latest = time.time() - 2 * deadline_s(weights.at_most)
    for path in cache_folder().glob(".*.tmp"):
        if name.fullmatch(path.name) and path.lstat().st_mtime < latest:
            path.unlink(missing_ok=True)


@contextmanager
def partial_file(path: Path, weights: WeightsFile) -> Iterator[Path]:
    """Give a new, empty file beside `path` to download to, removed in the end if it is still there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep_partials(weights)
        partial = path.with_name(f".{weights.name}.{os.getpid()}.tmp")
        partial.unlink(missing_ok=True)
        partial.touch()
    except OSError as error:
        what_to_do = "set MDS_CACHE to one that can be written."
        raise WeightsError(
            f"can't write to the cache folder {path.parent} ({error.strerror}); {what_to_do}"
        ) from error
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def fetch(weights: WeightsFile) -> Path:
    """Return the local path of verified weights, downloading them on first use.

    The file is written under a temporary name, verified and renamed, so that the cache never holds a partial
    one.

    Raises:
        WeightsError: no source gave the right content; names what to download, from where, and where to put
            it.
    """
    path = cache_folder() / weights.name
    if path.is_file():
        if matches(path, weights.digest):
            return path
        raise WeightsError(
            f"{path} is not the published {weights.name}: its {weights.digest.split(':')[0]} digest differs "
            f"from {weights.digest}. Delete it to download it again, or name your own file with --weights."
        )
    failures = []
    with partial_file(path, weights) as partial:
        for url in weights.sources:
            try:
                download(url, partial, weights.at_most)
                if not matches(partial, weights.digest):
                    raise WeightsError(f"the content is not the published file (expected {weights.digest})")
            except WeightsError as error:
                failures.append(f"{url}: {error}")
                continue
            os.replace(partial, path)
            return path
    raise WeightsError(
        f"can't fetch {weights.name} ({'; '.join(failures)}). Download it from {weights.sources[0]} on any "
        f"machine and put it at {path}, or name it with --weights."
    )
