"""Published training speeds: the errors stay what the documentation says, and the documentation says what the code does."""

import pytest
from published import CASES, PAGE, rows, runs_table, slowed_error, speeds_table, summary


def test_errors_are_within_bounds() -> None:
    found = {case.name: error for case, _, error, _ in rows()}
    assert len(found) == len(CASES)
    assert all(-0.1 < error < 0.55 for error in found.values()), found
    slowed = sorted(abs(slowed_error(case)) for case in CASES)
    assert slowed[len(slowed) // 2] < 0.10
    assert slowed[-1] < 0.26


@pytest.mark.parametrize("lines", [speeds_table, runs_table], ids=["speeds", "runs"])
def test_the_page_shows_what_the_code_gives(lines) -> None:  # type: ignore[no-untyped-def]
    """Made anew by `python tests/training/published.py`."""
    text = PAGE.read_text(encoding="utf-8")
    for line in lines():
        assert line in text, line


def test_the_page_sums_up_what_the_code_gives() -> None:
    assert summary() in PAGE.read_text(encoding="utf-8")
