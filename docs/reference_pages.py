"""MkDocs hook: the pages that are written from the code, so that they cannot disagree with it.

python docs/reference_pages.py FOLDER     writes them into a folder, to read without MkDocs
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import click
from click.testing import CliRunner
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import clustersim
from clustersim.cli import _COMMANDS, cli
from clustersim.cost.host import ServingEngine
from clustersim.hardware.accelerator import Accelerator
from clustersim.hardware.figure import Figure
from clustersim.hardware.link import Link
from clustersim.hardware.node import Node
from clustersim.hardware.reference import Ref
from clustersim.hardware.site import Site
from clustersim.kinds import FAMILIES, OneOf, Part, kinds
from clustersim.models.layout import Parallelism
from clustersim.models.lora import Lora
from clustersim.models.precision import Precision
from clustersim.models.spec import ModelSpec
from clustersim.scenario.operation import Retries, Startup, Update
from clustersim.scenario.published import Published
from clustersim.scenario.schema import (
    Cluster,
    Deployment,
    Engine,
    KvTier,
    KvTransfer,
    Outputs,
    Scenario,
    SiteFleet,
)
from clustersim.study.catalogue import SUBJECTS, catalogue
from clustersim.study.tradeoff.schema import (
    Demand,
    LatencySlo,
    Policy,
    ReinforcementLearning,
    ServingSide,
    Span,
    Target,
    TradeoffStudy,
    TrainingSide,
)
from clustersim.training.post_training import PostTraining
from clustersim.units import Quantity
from clustersim.workload.adapters import Adapters
from clustersim.workload.verifier import Verifier
from clustersim.workload.workload import Slo, Tasks, Tenant, TraceSource, Workload

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parent.parent
_NOTE = "*This page is written from the code when the documentation is built.*\n"
_SCENARIO = (Scenario, SiteFleet, Cluster, Deployment, Parallelism, Precision, Lora, KvTier, KvTransfer, Startup,
             Retries, Workload, Tenant, TraceSource, Slo, Adapters, Tasks, Verifier, Update, Published, Engine,
             Outputs)  # fmt: skip
_STUDY = (TradeoffStudy, Target, Demand, LatencySlo, TrainingSide, ReinforcementLearning, PostTraining, ServingSide,
          Policy, Span)  # fmt: skip
#: Fields that a model fills in before it validates.
_DERIVED = ((Precision, "activations"), (Precision, "kv_cache"))
_HARDWARE = (Node, Accelerator, Link, Site, ServingEngine)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages (MkDocs calls this once a build)."""
    from mkdocs.structure.files import File

    for path, make in PAGES.items():
        files.append(File.generated(config, path, content=make()))
    return files


def cli_page() -> str:
    """Return the help of every command."""
    parts = ["# Command line", _NOTE]
    for words in _called():
        title = " ".join(("clustersim", *words))
        answer = CliRunner().invoke(cli, [*words, "--help"], prog_name="clustersim", terminal_width=100)
        parts.append(f"## {title}\n\n```text\n{answer.output.rstrip()}\n```\n")
    parts.append(
        "## Exit codes\n\n| code | meaning |\n|---|---|\n| 0 | done |\n"
        "| 2 | the input cannot be used; nothing was written |\n"
        "| 3 | an `--assert` does not hold; the result was written |\n| 130 | interrupted; nothing was written |\n"
    )
    return "\n".join(parts)


def _called() -> Iterator[tuple[str, ...]]:
    """Yield the words that call each command, those of a group below it."""
    yield ()
    for name in _COMMANDS:
        yield (name,)
        command = cli.get_command(click.Context(cli), name)
        if isinstance(command, click.Group):
            yield from ((name, inner) for inner in command.commands)


def scenario_page() -> str:
    """Return every key of a scenario file and of the specs it may hold."""
    parts = [
        "# Scenario files", _NOTE,
        "A scenario is YAML 1.2. Quantities are strings with units; a bare number is refused where a unit is wanted. "
        "`clustersim schema` prints the same as a JSON schema, for completion in an editor.\n",
        "Beside the keys below, a scenario may say `extends:` (a file beside it, or a built-in: mappings merge "
        "key by key, a list or a part of another `kind` replaces), and `workload:` in place of a `workloads:` of one. "
        "A workload may say `use:` to start from a built-in.\n",
        "Where a node, accelerator, link, site or serving engine is wanted, write its name, a file of your own "
        "(`./engine.yaml`, from the file that says it), a variation on either "
        "(`{base: h100-sxm, memory_bandwidth: 6 TB/s}`), or the whole with a `name`.\n",
    ]  # fmt: skip
    parts += [_model(model) for model in _SCENARIO]
    parts.append("# Hardware specs\n\nEach figure is a quantity, or `{value, evidence, source, date}`.\n")
    parts += [_model(model) for model in _HARDWARE]
    return "\n".join(parts)


def study_page() -> str:
    """Return every key of a tradeoff study."""
    parts = [
        "# Tradeoff studies", _NOTE,
        "A file that says `study: tradeoff`; see [how](../howto/train-or-think.md). Written as "
        "[scenario files](scenario.md) are.\n",
    ]  # fmt: skip
    return "\n".join([*parts, *(_model(model) for model in _STUDY)])


def parts_page() -> str:
    """Return every kind of every family, with its settings and examples."""
    lines = [
        "# Parts",
        _NOTE,
        "A part is chosen by its `kind`. Where it needs no settings the bare kind will do.\n",
    ]
    for family in FAMILIES:
        lines.append(f"## {family}\n")
        for kind, part in kinds(family).items():
            lines.append(f"### {family}: {kind}\n\n{_doc(part)}\n")
            lines.append(_fields(part, skip=("kind",)))
            examples = getattr(part, "examples", ())
            shown = "\n".join(_inline({"kind": kind, **example}) for example in examples)
            lines.append(f"```yaml\n{shown}\n```\n" if shown else "")
    return "\n".join(lines)


def library_page() -> str:
    """Return what is on the shelves."""
    lines = [
        "# Built-in library",
        _NOTE,
        "The same as `clustersim list`. FLOP/s are dense, bandwidths per direction.\n",
    ]
    for subject in [
        subject
        for subject in SUBJECTS
        if not any(subject.startswith(family.removesuffix("y")) for family in FAMILIES)
    ]:
        rows = catalogue(subject)
        heads = list(rows[0])
        lines.append(f"## {subject}\n\n{_table(heads, [[row[head] for head in heads] for row in rows])}")
    return "\n".join(lines)


def python_page() -> str:
    """Return the public names with signatures and docstrings."""
    lines = ["# Python", _NOTE, "```python\nimport clustersim as cs\n```\n"]
    for name in clustersim.__all__:
        thing = getattr(clustersim, name)
        is_model = inspect.isclass(thing) and issubclass(thing, BaseModel)
        signature = "" if is_model else str(inspect.signature(thing)).replace("clustersim.", "")
        lines.append(f"## cs.{name}\n\n```text\n{name}{_unquoted(signature)}\n```\n\n{_doc(thing)}\n")
        for method, function in vars(thing).items() if inspect.isclass(thing) else ():
            shown = not method.startswith("_") or method == "__getitem__"
            if (
                shown
                and inspect.isfunction(function)
                and function.__doc__
                and not method.startswith("model_")
            ):
                text = _unquoted(str(inspect.signature(function)))
                lines.append(f"`{method}{text}`: {_doc(function)}\n")
    return "\n".join(lines)


def _unquoted(signature: str) -> str:
    return re.sub(r"'([^']*)'", r"\1", signature)


def root_page(name: str) -> Callable[[], str]:
    """Return what makes a page of a file in the repository's root, its links into docs/ made relative."""

    def make() -> str:
        return (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")

    return make


PAGES: Mapping[str, Callable[[], str]] = {
    "reference/cli.md": cli_page,
    "reference/scenario.md": scenario_page,
    "reference/study.md": study_page,
    "reference/parts.md": parts_page,
    "reference/library.md": library_page,
    "reference/python.md": python_page,
    "architecture.md": root_page("ARCHITECTURE.md"),
    "changelog.md": root_page("CHANGELOG.md"),
}


# ---- tables --------------------------------------------------------------------------------------------------------


def _doc(thing: Any) -> str:
    text = inspect.getdoc(thing) or ""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n")).replace("<", "&lt;")


def _model(model: type[BaseModel]) -> str:
    return f"## {model.__name__}\n\n{_doc(model)}\n\n{_fields(model)}"


def _fields(model: type[BaseModel], skip: Sequence[str] = ()) -> str:
    rows = []
    for name, field in model.model_fields.items():
        if name not in skip:
            about = " ".join((field.description or "").split())
            default = "follows the weights" if (model, name) in _DERIVED else _default(field)
            rows.append([f"`{field.alias or name}`", _type(field), default, about])
    return _table(["key", "value", "if not given", "meaning"], rows) if rows else ""


def _type(field: FieldInfo) -> str:
    found: list[str] = []
    for mark in field.metadata:
        found += _of_mark(mark)
    return " or ".join(dict.fromkeys(found or _of(field.annotation))) or "value"


def _of_mark(mark: Any) -> Iterator[str]:
    if isinstance(mark, OneOf):
        yield f"a [{mark.family}](parts.md#{mark.family})"
    elif isinstance(mark, Ref):
        yield f"one of the [{mark.shelf}](library.md#{mark.shelf})"
    elif isinstance(mark, Quantity):
        yield f"e.g. `{mark.example}`"


def _of(annotation: Any) -> list[str]:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return [text for mark in inner[1:] for text in _of_mark(mark)] or _of(inner[0])
    if origin in (Union, UnionType):
        return [text for each in inner if each is not type(None) for text in _of(each)]
    if origin is Literal:
        return [f"`{choice}`" for choice in inner]
    if origin in (list, tuple):
        items = dict.fromkeys(text for each in inner if each is not ... for text in _of(each))
        return [f"list of {' and '.join(items)}"]
    if inspect.isclass(annotation) and issubclass(annotation, Figure):
        return _of(annotation.model_fields["value"].rebuild_annotation())
    return [_word(annotation)]


_WORDS = {
    str: "text", int: "whole number", float: "number", bool: "`true`, `false`",
    ModelSpec: "one of the [models](library.md#models), the path of a `config.json`, or its content",
}  # fmt: skip


def _word(annotation: Any) -> str:
    if annotation in _SCENARIO:
        return f"[{annotation.__name__}](scenario.md#{annotation.__name__.lower()})"
    if annotation in _STUDY:
        return f"[{annotation.__name__}](study.md#{annotation.__name__.lower()})"
    if inspect.isclass(annotation) and issubclass(annotation, Part):
        return "a part"
    return _WORDS.get(annotation, getattr(annotation, "__name__", "value"))


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "**required**" if field.is_required() else ""
    if value is None or value in ("", ()):
        return ""
    if isinstance(value, BaseModel):
        return "its own defaults"
    for mark in field.metadata:
        if isinstance(mark, Quantity):
            from clustersim.units import write

            return f"`{write(value, mark.unit)}`"
    return f"`{value}`".lower() if isinstance(value, bool) else f"`{value}`"


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return str(value)


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    def cell(value: object) -> str:
        return "" if value is None else str(value).replace("|", "\\|")

    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    for page, write_page in PAGES.items():
        target = Path(sys.argv[1]) / page
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(write_page(), encoding="utf-8")
