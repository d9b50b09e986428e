"""Files that are whole or not there: written durably, read with their checksum, by one writer.

A file is written under another name, fsynced and renamed, and its folder is fsynced, so that it
survives a loss of power once `write` has returned. It ends in a line with the SHA-256 of all before
it. Readers of netCDF files do not mind that line, and `read` verifies it before any library
interprets a byte.

Locks are those of the operating system (through ``filelock``): a killed process loses its own. They
hold on one machine, and on shared disks that pass ``flock`` on, as NFS does.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

PART = ".part"  # the ending of a file that is being written
LOCK = ".lock"
WORDS = 100_000  # bytes of a lock that are read


class Damaged(ValueError):
    """A file does not have the bytes that were written."""


class Held(OSError):
    """A lock is held by another process; the message says which."""


def write(path: Path, payload: bytes | memoryview) -> None:
    """Write ``payload`` and its checksum: on the disk when this returns, or not at all.

    Raises:
      OSError: if it cannot be written; what was there before is as it was.
    """
    digest = hashlib.sha256(payload).hexdigest()
    write_as_it_is(path, payload, _trailer(digest))


def write_as_it_is(path: Path, *parts: bytes | memoryview) -> None:
    """Write bytes without a checksum, otherwise as `write`: pictures and pages."""
    part = path.with_name(f".{path.name[:80]}.{secrets.token_hex(8)}{PART}")
    try:
        _make_folder(path.parent)
        with _alive(part):
            try:
                with open(part, "wb") as file:
                    for bytes_ in parts:
                        file.write(bytes_)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(part, path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        _sync_folder(path.parent)
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write {path}: {os.strerror(error.errno) if error.errno else error}. Make room "
            "or access there, or choose another folder; the same command then goes on",
        ) from error


def read(path: Path) -> bytes:
    """The payload of a file, its checksum verified.

    Raises:
      Damaged: if the checksum is not there or does not fit.
      OSError: if the file cannot be read.
    """
    data = path.read_bytes()
    size = max(len(data) - len(_trailer("0" * 64)), 0)
    if data[size:] != _trailer(hashlib.sha256(memoryview(data)[:size]).hexdigest()):
        raise Damaged(
            f"{path} is damaged or cut short: its checksum does not fit its {len(data)} bytes. "
            "Delete it, and what it held is made again."
        )
    return data[:size]


def is_whole(path: Path) -> bool:
    """Whether there is such a file and its checksum fits.

    Raises:
      OSError: if there is one that cannot be read.
    """
    try:
        read(path)
    except (FileNotFoundError, Damaged):
        return False
    return True


def seems_whole(path: Path) -> bool:
    """Whether a file ends as `write` leaves it: a glance, where `is_whole` reads every byte."""
    size = len(_trailer("0" * 64))
    try:
        with open_file(path) as file:
            file.seek(-size, os.SEEK_END)
            return file.read().startswith(b"\nsha256 ")
    except OSError:
        return False


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading, and nothing else: a pipe of its name would wait for ever.

    Raises:
      OSError: if it is not there, cannot be read, or is no file.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is no file", str(path))
    return open(path, "rb")


@contextlib.contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[Callable[[str], None]]:
    """Hold the lock of ``path``; gives what leaves a line there for others to read by `holder`.

    Args:
      path: of the file, which need not be there.
      wait: for whoever holds it.

    Raises:
      Held: if another process holds it, and this one does not wait.
      OSError: if its folder cannot be written to.
    """
    _make_folder(path.parent)
    place = _lock_of(path)
    command = " ".join(" ".join(sys.argv)[:500].split())
    who = (
        f"process {os.getpid()} on {socket.gethostname()}, since "
        f"{datetime.now():%Y-%m-%d %H:%M:%S}: {command}\n"
    )

    def say(line: str) -> None:
        with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
            place.write_text(who + line)

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_held(place, timeout=-1 if wait else 0))
        except Timeout:
            raise Held(f"{path} is in use by {_holder(place)}") from None
        say("")
        yield say


def holder(path: Path) -> tuple[str, str] | None:
    """Who holds the lock of ``path`` and what they left there; None: nobody does.

    It takes no lock away from anybody and needs no right to write.
    """
    place = _lock_of(path)
    try:
        with open_file(place) as file:
            if not _is_locked(file.fileno()):
                return None
            text = file.read(WORDS).decode(errors="replace")
    except OSError:
        return None
    who, _, line = text.partition("\n")
    return who, line


def remove_leftovers(folder: Path) -> None:
    """Remove the unfinished files and locks of processes that are no more, in ``folder`` itself."""
    for part in folder.glob(f".*{PART}"):
        with contextlib.suppress(Timeout, OSError), _alive(part):
            part.unlink(missing_ok=True)
    for place in folder.glob(f".*{LOCK}"):
        with contextlib.suppress(Timeout, OSError), _held(place):
            pass


def check_room(folder: Path, size: int) -> None:
    """Find out whether ``folder`` takes ``size`` bytes: before hours of work, not after.

    Raises:
      OSError: if the folder cannot be written to, or has no room.
    """
    path = folder / f".room-{secrets.token_hex(8)}{PART}"
    write_as_it_is(path, bytes(min(size, 2**24)))
    path.unlink(missing_ok=True)
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(
            errno.ENOSPC,
            f"{folder} has {free / 2**20:,.0f} MiB left and the results need "
            f"{size / 2**20:,.0f} MiB. Make room, or choose another folder",
        )


@contextlib.contextmanager
def _held(place: Path, timeout: float = 0) -> Iterator[None]:
    """Hold a lock file, which is removed while it is held: who waits for it looks for a new one."""
    lock = FileLock(place)
    lock.acquire(timeout=timeout)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            place.unlink()
        lock.release()


def _alive(part: Path) -> contextlib.AbstractContextManager[None]:
    """Held while a file is written, this says that its writer is alive.

    It is not the lock of the file itself, which some versions of filelock would empty.
    """
    return _held(part.with_suffix(LOCK))


def _make_folder(folder: Path) -> None:
    """Make a folder with those above it, so that it is there after a loss of power."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _trailer(digest: str) -> bytes:
    return f"\nsha256 {digest}\n".encode()


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}{LOCK}")


def _holder(place: Path) -> str:
    with contextlib.suppress(OSError):
        return place.read_text(errors="replace").partition("\n")[0].strip() or "another process"
    return "another process"


def _is_locked(opened: int) -> bool:
    """Whether another process has locked an open file; those who only look do not count."""
    try:
        import fcntl
    except ImportError:  # Windows, where a locked file cannot be read
        return False
    try:
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(opened, fcntl.LOCK_UN)
    return False


def _sync_folder(folder: Path) -> None:
    place = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)
