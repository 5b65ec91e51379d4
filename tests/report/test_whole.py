"""What is written is there whole or not at all: a signal at every line, an error at every call, a full disk."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from clustersim.errors import InputError
from clustersim.report import whole
from clustersim.report.whole import all_or_nothing, check_file, check_folder, uninterrupted, write_file


class Stop(BaseException):
    """What the signals raise here."""


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Stop

    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


def write_folder(out: Path) -> None:
    with all_or_nothing(out) as folder:
        (folder / "a").write_text("new")
        (folder / "b").write_text("new")


def new_file(out: Path) -> None:
    write_file(out, "new")


WRITERS: dict[str, Callable[[Path], None]] = {"folder": write_folder, "file": new_file}


def contents(path: Path) -> Any:
    """Return a tree as data: text of files, mappings of folders."""
    if path.is_dir():
        return {each.name: contents(each) for each in path.iterdir()}
    return path.read_text()


NEW = {"folder": {"a": "new", "b": "new"}, "file": "new"}
OLD = {"folder": {"old": "old"}, "file": "old"}


def at_line(number: int, act: Callable[[], None], run: Callable[[], None]) -> bool:
    """Run, and act when the line `number` of what runs in whole.py begins; return whether there was such a line."""
    files = {whole.__file__, __file__}
    seen = 0

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal seen
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            seen += 1
            if seen == number + 1:
                act()
        return trace

    def apart() -> Iterator[None]:
        # An exception that CPython 3.11 is still handling when a tracer raises stays so: here until this ends.
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            run()
        finally:
            sys.settrace(before)
        yield

    next(apart())
    return seen > number


@pytest.mark.parametrize("old", [False, True], ids=["new", "replaced"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("what", WRITERS)
def test_a_signal_at_any_line(what: str, number: int, old: bool, tmp_path: Path) -> None:
    line, outcomes, reached = 0, set(), True
    while reached:
        here = tmp_path / str(line)
        out = here / "out" if what == "file" else here / "made" / "for" / "it"
        if old or what == "file":
            out.parent.mkdir(parents=True)
        if old and what == "folder":
            out.mkdir()
            (out / "old").write_text("old")
        elif old:
            out.write_text("old")
        try:
            reached = at_line(line, lambda: signal.raise_signal(number), partial(WRITERS[what], out))
        except Stop:
            outcomes.add(contents(out) == NEW[what] if out.exists() else None)
        else:
            assert not reached, f"line {line}: the signal is lost"
        if out.exists():
            assert contents(out) in (NEW[what], OLD[what]), line
            assert list(out.parent.iterdir()) == [out], f"line {line} leaves something beside it"
        else:
            assert not old, line
            assert not here.exists() or list(here.iterdir()) == [], f"line {line} leaves something"
        for each in (signal.SIGINT, signal.SIGTERM):
            with pytest.raises(Stop):  # whatever handler is there
                signal.raise_signal(each)
        line += 1
    assert line > 30
    assert outcomes == ({False, True} if old else {None, True})


def outcome(write: Callable[[Path], None], out: Path) -> str:
    """Return with what words a write is refused, "" if it is not."""
    try:
        write(out)
    except InputError as error:
        return str(error)
    return ""


CALLS = ("mkdir", "mkdtemp", "chmod", "write_text", "rename", "replace")


@pytest.mark.parametrize("old", [False, True], ids=["new", "replaced"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("what", WRITERS)
def test_a_disk_that_is_full_at_any_call(
    what: str, call: str, old: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "x" / "out"
    out.parent.mkdir()
    if old:
        out.write_text("old") if what == "file" else (out.mkdir(), (out / "old").write_text("old"))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space", "a name that nobody asked for")

    owner = {"mkdtemp": whole.tempfile, "rename": os, "replace": os}.get(call, Path)
    with monkeypatch.context() as patch:
        patch.setattr(owner, call, full)
        refused = outcome(WRITERS[what], out)
    if refused:
        assert refused == f'cannot write "{out}": No space left on device'
        assert contents(out) == OLD[what] if old else not out.exists()
        assert list(out.parent.iterdir()) == ([out] if old else [])
    else:
        assert contents(out) == NEW[what]


def test_a_signal_that_is_held_back_acts_at_the_end() -> None:
    reached = []

    def held() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            reached.append("the end")

    with pytest.raises(Stop):
        held()
    assert reached == ["the end"]


@pytest.mark.skipif(os.name == "nt", reason="no such devices")
@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("/dev/null", "is a pipe or a device; give a file"),
        ("/dev/null/x", "Not a directory"),
        (".", "is a folder; give a file"),
        ("none/x.html", "there is no folder"),
        ("a" * 300, "File name too long"),
        ("a\0b", "no file's name holds such a character"),
        ("loop/x", "Too many levels of symbolic links"),
        ("loop", "link that leads back to itself"),
    ],
)
def test_a_file_that_cannot_be_written(
    out: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    with pytest.raises(InputError, match=says):
        check_file(Path(out))
    assert [path.name for path in tmp_path.iterdir()] == ["loop"]


@pytest.mark.parametrize("out", [".", "..", "/", "here/.."])
def test_the_folder_that_one_is_in_is_not_replaced(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    (tmp_path / "a" / "here").mkdir()
    with pytest.raises(InputError, match="the folder that you are in"):
        check_folder(Path(out), ["result.json"], "result.json")


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    write_folder(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert contents(tmp_path / "there") == NEW["folder"]
