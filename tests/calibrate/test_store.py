"""The store keeps every whole line, whatever became of the process that wrote it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrate.case import Case, Samples
from calibrate.store import ERRORS, MANIFEST, SAMPLES, Store, read_lines


def samples(
    m: int = 1, repetition: int = 0, *flags: str, seconds: tuple[float, ...] = (1e-3, 2e-3)
) -> Samples:
    case = Case("gemm", "gemm", "bf16", {"m": m})
    return Samples(case, seconds, "cpu", repetition=repetition, flags=flags, notes={"load": 0.5})


def test_what_is_added_is_read_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(samples(1), block="a")
    store.add(samples(2, 1))
    again = Store(tmp_path)
    assert again.samples() == [samples(1), samples(2, 1)]
    assert again.done() == {(samples(1).case.key, 0), (samples(2).case.key, 1)}


@given(cut=st.integers(0, 400))
def test_a_torn_line_loses_itself_alone(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("torn")
    store = Store(folder)
    store.add(samples(1))
    whole = (folder / SAMPLES).read_bytes()
    store.add(samples(2))
    both = (folder / SAMPLES).read_bytes()
    (folder / SAMPLES).write_bytes(both[: len(whole) + min(cut, len(both) - len(whole) - 2)])
    again = Store(folder)
    again.add(samples(3))
    assert again.samples() == [samples(1), samples(3)]
    assert (folder / SAMPLES).read_bytes().startswith(whole)


def test_garbage_and_absence_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / SAMPLES).write_bytes(b'\xff\x00garbage\n[1]\n{"kind": "samples"')
    assert list(read_lines(tmp_path / SAMPLES)) == []
    assert list(read_lines(tmp_path / "none")) == []
    assert Store(tmp_path).samples() == []


def test_a_block_that_its_canary_spoke_against_is_flagged_and_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(samples(1, seconds=(1.0,)), block="a")
    store.add_verdict("a", 0.2, invalid=True)
    assert store.samples() == [samples(1, 0, "canary_drift", seconds=(1.0,))]
    store.add(samples(1, seconds=(2.0,)), attempt=1, block="b")
    store.add_verdict("b", 0.01, invalid=False)
    assert store.samples() == [samples(1, seconds=(2.0,))]
    assert len(store.all_samples()) == 2
    assert store.drifts() == [0.2, 0.01]
    store.add(samples(1, seconds=(3.0,)), attempt=2, block="c")
    store.add_verdict("c", 0.3, invalid=True)
    assert store.samples() == [samples(1, seconds=(2.0,))]


def test_contended_samples_are_done_only_where_they_are_allowed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(samples(1, 0, "contended"))
    assert store.done() == frozenset()
    assert len(store.done(allow_contended=True)) == 1


def test_failures_are_counted_by_case(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add_error(samples(1).case, 0, "hung", "killed")
    store.add_error(samples(1).case, 1, "failed", "RuntimeError: no")
    assert store.failures()[samples(1).case.key] == 2
    assert [error["what"] for error in read_lines(tmp_path / ERRORS)] == ["hung", "failed"]


def test_sessions_keep_what_they_say_of_the_device(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add_session({"started": "now", "kind": "cpu"})
    assert [session["started"] for session in store.sessions()] == ["now"]


def test_the_manifest_knows_every_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(samples(1))
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "x").write_text("x")
    found = json.loads(store.write_manifest().read_text())
    assert set(found) == {SAMPLES, "below/x"}
    assert found["below/x"] == {
        "sha256": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881", "bytes": 1
    }  # fmt: skip
    assert MANIFEST not in found
