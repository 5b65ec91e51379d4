"""Find what runs only where a GPU is, in the code itself, so that the documentation's list cannot rot.

A function counts where it uses torch.cuda (asking whether there is a device aside) or NVML, asks whether a tensor, a device
or torch is of a GPU, or is a Triton kernel. A class counts whole where making one does.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("calibrate", "kernels")
PAGE = ROOT / "docs" / "howto" / "measure-this-machine.md"
_TABLE = re.compile(r"(<!-- gpu paths, [^\n]*-->\n)(?:\|[^\n]*\n)*")


def gpu_paths() -> dict[str, list[str]]:
    """Return classes and functions by module, in the order in which they stand."""
    found: dict[str, list[str]] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            names = list(_found(ast.parse(path.read_text(encoding="utf-8")), ""))
            if names:
                found[module] = names
    return found


def page() -> str:
    """Return the text of the page that lists them, with the list anew."""
    return _TABLE.sub(lambda found: found[1] + table(), PAGE.read_text(encoding="utf-8"))


def table() -> str:
    """Return them as a table in Markdown."""
    rows = [
        f"| `{module}` | {', '.join(f'`{name}`' for name in names)} |"
        for module, names in gpu_paths().items()
    ]
    return "\n".join(["| module | what |", "|---|---|", *rows]) + "\n"


def _found(node: ast.AST, within: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            makers = [each for each in child.body if getattr(each, "name", "") == "__init__"]
            if any(_on_gpu(maker) for maker in makers):
                yield child.name
            else:
                yield from _found(child, f"{child.name}.")
        elif isinstance(child, ast.FunctionDef) and _on_gpu(child):
            yield within + child.name


def _on_gpu(function: ast.AST) -> bool:
    return any(_touches(node) for node in ast.walk(function))


def _touches(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(value=ast.Attribute(attr="cuda") | ast.Name(id="cuda"), attr=attr):
            return attr != "is_available"
        case ast.Attribute(value=ast.Name(id="triton"), attr="jit") | ast.Attribute(attr="is_cuda" | "hip"):
            return True
        case ast.Compare(left=ast.Attribute(attr="device") | ast.Name(id="device")):
            return any(getattr(each, "value", None) == "cuda" for each in node.comparators)
        case ast.Attribute(attr=str(name)) | ast.Constant(value=str(name)):
            return name.startswith("nvml") and name != "nvml"
    return False
