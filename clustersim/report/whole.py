"""What is written is there whole or not at all.

Everything is made beside its place and put there by one rename. Whatever comes between, Ctrl-C, SIGTERM, a full disk,
leaves what was there before and nothing else; the rename and the clearing up are not interrupted.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from clustersim.errors import InputError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_NAME_LENGTH = 40  # of what is written, in the name of the folder in which it is made


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back while the block runs; they act at its end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before: dict[int, Any] = {}
    shut = True

    def hold(number: int, frame: FrameType | None) -> None:
        was = before.get(number)
        if shut:
            held.append(number)
        elif callable(was):  # one signal came while the other's handler was being put back
            was(number, frame)

    try:
        for each in _SIGNALS:
            before[each] = signal.getsignal(each)
            signal.signal(each, hold)
        yield
    finally:
        shut = False
        for number, was in before.items():
            signal.signal(number, was)
        for first in held[:1]:
            signal.raise_signal(first)


def check_folder(out: Path, files: Collection[str], always: str) -> None:
    """Refuse a folder that cannot be written, or whose replacement would lose something else than `files`.

    `always` is the one of `files` that is always there. Raises InputError.
    """
    target = _target(out)
    try:
        found = sorted(path.name for path in target.iterdir()) if target.is_dir() else None
        if found is None and target.exists():
            raise InputError(f'"{out}" is a file; give a folder')
    except OSError as error:
        raise _cannot(out, error) from None
    if found is None:
        _check_room(target, out)
        return
    if target == Path.cwd() or target in Path.cwd().parents:
        raise InputError(
            f'"{out}" is the folder that you are in, or holds it; give another, such as --out result'
        )
    if found and always not in found:
        raise InputError(f'"{out}" exists and no run of clustersim wrote it; give another folder')
    others = [name for name in found if name not in files]
    if others:
        raise InputError(
            f'"{out}" also holds "{others[0]}", which would be lost; move it or give another folder'
        )
    _check_room(target, out)


def check_file(out: Path) -> None:
    """Refuse a file that cannot be written; raises InputError. An ordinary file that is there may be replaced."""
    target = _target(out)
    if target.is_dir():
        raise InputError(f'"{out}" is a folder; give a file')
    if target.exists() and not target.is_file():
        raise InputError(f'"{out}" is a pipe or a device; give a file')
    _check_room(target, out, parents=False)


@contextmanager
def all_or_nothing(out: Path) -> Iterator[Path]:
    """Give a folder beside `out` that becomes it if all goes well, and vanishes if anything does not.

    Raises InputError where the disk is full or `out` cannot be written.
    """
    target = _target(out)
    made = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    folder: Path | None = None
    done = False
    try:
        with uninterrupted():
            folder = _room(target)
        yield folder
        with uninterrupted():
            _replace(target, folder)
            done = True
    except OSError as error:
        raise _cannot(out, error) from error
    finally:
        if not done:
            with uninterrupted():
                _clear(folder, made)


def write_file(out: Path, text: str) -> None:
    """Write a text file, whole or not at all; raises InputError where the disk is full or `out` cannot be written."""
    target = _target(out)
    check_file(out)
    folder: Path | None = None
    try:
        with uninterrupted():
            folder = _room(target)
        made = folder / target.name
        made.write_text(text, encoding="utf-8", newline="\n")
        if target.exists():
            made.chmod(target.stat().st_mode & 0o777)
        with uninterrupted():
            os.replace(made, target)
            folder.rmdir()
            folder = None
    except OSError as error:
        raise _cannot(out, error) from error
    finally:
        if folder is not None:
            with uninterrupted():
                _clear(folder, [])


def _target(out: Path) -> Path:
    """Return what a path means, its links followed; raises InputError for one that leads nowhere."""
    try:
        target = Path(os.path.realpath(out))
        os.lstat(target)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _cannot(out, error) from None
    except ValueError:
        raise InputError(f"cannot write {str(out)!r}: no file's name holds such a character") from None
    if target.is_symlink():
        raise InputError(f'cannot write "{out}": it is a link that leads back to itself')
    return target


def check_room(out: Path) -> None:
    """Refuse a folder that could not be made, before anything runs; raises InputError."""
    _check_room(_target(out), out)


def _check_room(target: Path, out: Path, parents: bool = True) -> None:
    there = next(folder for folder in target.parents if folder.exists())
    if not there.is_dir():
        raise InputError(f'cannot write "{out}": {there} is a file')
    if there != target.parent and not parents:
        raise InputError(f'cannot write "{out}": there is no folder "{out.parent}"; make it first')
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f'cannot write "{out}": you may not write in {there}')


def _room(target: Path) -> Path:
    """Make the folder, beside `target`, in which it is made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:_NAME_LENGTH]}-"))
    try:
        folder.chmod(0o755)
    except OSError:
        folder.rmdir()
        raise
    return folder


def _replace(target: Path, folder: Path) -> None:
    """Put `folder` where `target` is; if that fails the old one is back."""
    if not target.exists():
        os.rename(folder, target)
        return
    aside = folder.with_name(f"{folder.name}-old")
    os.rename(target, aside)
    try:
        os.rename(folder, target)
    except BaseException:
        os.rename(aside, target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _clear(folder: Path | None, made: list[Path]) -> None:
    """Remove the folder, and those above it that were made for it, from the innermost on."""
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    for parent in made:
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()


def _cannot(out: Path, error: OSError) -> InputError:
    """Say why `out` cannot be written."""
    why = os.strerror(error.errno) if error.errno else str(error).splitlines()[0]
    return InputError(f'cannot write "{out}": {why}')
