"""Read a file that a person names: an ordinary one, of a sensible size, in UTF-8. All else is refused unopened."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from clustersim.errors import InputError, Problem

_WHY = {
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "does not exist: a part of its path is a file",
    errno.ELOOP: "is a link that leads back to itself",
    errno.ENAMETOOLONG: "is too long for the name of a file",
}


def why_not(path: str | Path) -> str:
    """Say why `path` is no ordinary file ("is a folder"), "" where it is one. Never waits, as opening a pipe would."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return _WHY.get(error.errno or 0, f"cannot be read: {error.strerror}")
    except ValueError:
        return "holds a character that no file's name has"
    if stat.S_ISDIR(mode):
        return "is a folder; give a file"
    if not stat.S_ISREG(mode):
        return "is a pipe or a device; write what it holds into a file, and give that"
    return ""


def is_file(path: str | Path) -> bool:
    """Say whether `path` is an ordinary file; False, not an error, for any path that cannot be one."""
    return not why_not(path)


def exists(path: str | Path) -> bool:
    """Say whether anything is at `path`; False, not an error, for a path that cannot be."""
    try:
        os.stat(path)
    except (OSError, ValueError):
        return False
    return True


def check(path: Path, max_bytes: float, mend: str) -> None:
    """Raise InputError unless `path` is an ordinary file of at most `max_bytes`; `mend` is advice if it is larger."""
    if why := why_not(path):
        raise InputError([Problem(str(path), why)])
    size = path.stat().st_size
    if size > max_bytes:
        what = f"is too large: {size / 1e6:,.0f} MB where {max_bytes / 1e6:,.0f} MB can be read; {mend}"
        raise InputError([Problem(str(path), what)])


def read_text(path: Path, max_bytes: float, mend: str) -> str:
    r"""Return a file's text without a byte order mark, its lines ended by "\n"; raises InputError, see `check`."""
    check(path, max_bytes, mend)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError([Problem(str(path), f"cannot be read: {error.strerror}")]) from None
    return decode(data, str(path)).replace("\r\n", "\n").replace("\r", "\n")


def decode(data: bytes, file: str, line: int = 1) -> str:
    """Return UTF-8 text; raises InputError with the line where it is not, the first being `line`."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = line + data.count(b"\n", 0, error.start)
        what = f"is not UTF-8 text (byte 0x{data[error.start]:02x}): save it as UTF-8"
        raise InputError([Problem(f"{file}:{at}", what)]) from None
