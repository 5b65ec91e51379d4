"""The package without torch and triton: names are there, looking a kernel up says what to install."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from kernels import KERNELS
from kernels.targets import TARGETS


def test_names() -> None:
    assert len(KERNELS) == len(list(KERNELS)) == 10
    assert "gemm" in list(KERNELS)
    with pytest.raises(KeyError, match=r"no kernel 'gem'; there are stream_copy, .*gemm"):
        KERNELS["gem"]


@pytest.mark.parametrize("package", ["torch", "triton"])
def test_missing_packages_are_named_with_the_extra(package, monkeypatch) -> None:
    for module in [name for name in sys.modules if name.startswith("kernels.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    other = "torch" if package == "triton" else "triton"
    with pytest.raises(
        ModuleNotFoundError, match=rf"need ({package}|{other}): pip install 'clustersim\[kernels\]'"
    ):
        KERNELS["swiglu"]


def test_import_needs_neither_torch_nor_triton() -> None:
    code = "import sys, kernels, kernels.targets, kernels.aot; sys.exit(bool({'torch', 'triton'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_pipelines_keep_within_the_memory_of_amd() -> None:
    assert TARGETS["gfx942"].stages(4) == 2
    assert TARGETS["sm_90"].stages(4) == 4


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parents[2].glob("kernels/*.py")), ids=lambda path: path.stem
)
def test_only_triton_functions_do_without_types(path) -> None:
    """mypy lets kernels/ have untyped functions, since arguments of triton.jit's have no types in Python."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and "triton.jit" not in map(ast.unparse, node.decorator_list):
            arguments = [
                each for each in (*node.args.args, *node.args.kwonlyargs) if each.arg not in ("self", "cls")
            ]
            assert node.returns is not None, node.name
            assert all(each.annotation is not None for each in arguments), node.name
