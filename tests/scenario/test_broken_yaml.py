"""Files that are no sound YAML, or no scenario."""

from __future__ import annotations

from pathlib import Path

import pytest
from refusing import GOOD, refusal

BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
)
#: What the file holds -> how the answer begins, and what else it says.
FILES: dict[str, tuple[str | bytes, str, str]] = {
    "billion laughs": (BOMB, "mine.yaml:2: a1.0: aliases", "repeat the value"),
    "an alias of itself": ("a: &a [*a]\n", "mine.yaml:1: a.0: aliases", "extends"),
    "a merge key": ("base: {x: 1}\nother:\n  <<: {x: 1}\n", "mine.yaml:3: other: merging (<<)", "extends"),
    "an unknown alias": ("a: *b\n", "mine.yaml:1: not valid YAML", "undefined alias"),
    "deep lists": ("a: " + "[" * 90 + "]" * 90, "mine.yaml:1: is nested too deeply", "64"),
    "deep mappings": ("".join(f"{' ' * n}a:\n" for n in range(90)), "mine.yaml:66: is nested too deeply", "64"),
    "very deep lists": ("a: " + "[" * 100_000, "mine.yaml: is nested too deeply", ""),
    "a key twice, deep inside": (GOOD.replace("count: 2", "count: 2, count: 3"), "mine.yaml:6: fleet.0.clusters.0", "twice"),
    "a key twice, once in quotes": ("name: a\n'name': b\n", "mine.yaml:2: ", '"name" is given twice'),
    "a tab as indentation": (GOOD.replace("  - site", "\t- site"), "mine.yaml:4: not valid YAML", "indent with spaces"),
    "indented askew": (GOOD.replace("    model:", "   model:"), "mine.yaml:9: not valid YAML", ""),
    "a colon forgotten": (GOOD.replace("horizon: 10 s", "horizon 10 s"), "mine.yaml:3: not valid YAML", ""),
    "a quote left open": (GOOD.replace("small", '"small'), "mine.yaml:", "not valid YAML"),
    "a brace left open": (GOOD.replace("count: 2}", "count: 2"), "mine.yaml:7: not valid YAML", ""),
    "latin-1": (GOOD.replace("small", "caf\u00e9").encode("latin-1"), "mine.yaml:1: is not UTF-8", "save it as UTF-8"),
    "utf-16": (GOOD.encode("utf-16"), "mine.yaml:1: is not UTF-8", "save it as UTF-8"),
    "latin-1 further down": (b"# one\n# two\n# \xff\n", "mine.yaml:3: is not UTF-8", "0xff"),
    "a control character": ("name: a\nb: \x07\n", "mine.yaml:2: not valid YAML", "#x0007"),
    "a zip archive": (b"PK\x03\x04\x14\x00\x00\x00\x08\x00", "mine.yaml:1: not valid YAML", ""),
    "an ELF program": (b"\x7fELF\x02\x01\x01\x00\xd0\xff", "mine.yaml:1: is not UTF-8", ""),
    "HTML": ("<!DOCTYPE html>\n<html>", "mine.yaml:1: a scenario is a mapping", ""),
    "a python object": ("!!python/object/apply:os.system [touch hacked]\n", "mine.yaml:1: the tag", "leave it out"),
    "a python name": ("name: !!python/name:os.system\n", "mine.yaml:1: name: the tag", "not supported"),
    "a tag on a mapping": (GOOD.replace("fleet:", "fleet: !fleet"), "mine.yaml:3: fleet: the tag !fleet", ""),
    "binary in YAML": ("name: !!binary aGVsbG8=\n", "mine.yaml:1: name: the tag", ""),
    "a set": ("name: !!set {a, b}\n", "mine.yaml:1: name: the tag", ""),
    "a date": (GOOD.replace("small", "2024-01-01"), "mine.yaml:1: name: is a date", "quotes"),
    "a number of 5,000 digits": (GOOD.replace("count: 2", f"count: {'9' * 5000}"), "mine.yaml:6: fleet.0.clusters.0.count", "9999"),
    "a number of 400 digits": (GOOD.replace("count: 2", f"count: {'9' * 400}"), "mine.yaml:6: fleet.0.clusters.0.count", "18 digits"),
    "a list as a key": ("? [a, b]\n: c\n", "mine.yaml:1: a key must be a word", ""),
    "an unknown directive": ("%YAML 1.2 x\n---\na: b\n", "mine.yaml:", "not valid YAML"),
    "a number": ("42\n", "mine.yaml:1: a scenario is a mapping", ""),
    "null": ("~\n", "mine.yaml:1: a scenario is a mapping", ""),
    "only spaces": ("  \n \n", "mine.yaml: is empty", ""),
    "a study": ("study: tradeoff\nname: x\n", "mine.yaml:1: is a study", "clustersim tradeoff mine.yaml"),
    "four megabytes and more": ("# " + "x" * 4_000_000, "mine.yaml: is too large", "CSV"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content, begins, says = FILES[name]
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    line = refusal(["run", "mine.yaml"], capsys, monkeypatch)
    assert line.startswith(begins), line
    assert says in line, line


@pytest.mark.parametrize(
    "content",
    ["\ufeff" + GOOD, GOOD.replace("\n", "\r\n"), GOOD.replace("small", '"\\u00e9\\n"'), "# \u2028\n" + GOOD],
    ids=["byte order mark", "windows line ends", "escapes", "a line separator"],
)
def test_what_is_odd_but_sound_is_taken(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clustersim.scenario.load import load_with_plans

    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_bytes(content.encode())
    assert load_with_plans("mine.yaml")[0].horizon_s == 10
