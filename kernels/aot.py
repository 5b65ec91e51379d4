"""Compile kernels for accelerators that are not here, and say what they became.

    python -m kernels.aot [--kernel gemm ...] [--target sm_90 ...]

prints a row a kernel, specialisation and target. It shows that a kernel compiles, with which instructions, registers
and shared memory; not that it runs, nor how fast. Needs no GPU: ptxas comes with triton's wheel.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernels import KERNELS, AotSignature, Kernel

#: Backend, architecture and threads a warp, by name of the target.
TARGETS = {
    "sm_80": ("cuda", 80, 32),
    "sm_90": ("cuda", 90, 32),
    "sm_100": ("cuda", 100, 32),
    "gfx942": ("hip", "gfx942", 64),
}
#: Instruction classes, the first found naming a kernel: matrix units by generation, then loads and stores of 16 bytes.
_CLASSES = {
    "tcgen05": r"\btcgen05\.mma\b",
    "wgmma": r"\bwgmma\.mma_async\b",
    "mma.sync": r"\bmma\.sync\b",
    "mfma": r"\bv_mfma_\w+",
    "16-byte": r"\b(ld|st)\.global[\w.:]*\.v4\.[bf]32|\b(ld|st)\.global[\w.:]*\.v2\.[bf]64|\b(global|buffer)_(load|store)_dwordx4",
}


@dataclass(frozen=True)
class Compiled:
    """What one specialisation became on one target."""

    kernel: str
    label: str
    target: str
    asm: str
    """PTX or AMD GCN text."""
    instruction: str
    """tcgen05, wgmma, mma.sync, mfma; 16-byte for wide memory access without any; else none."""
    registers: int
    """A thread: of 255 on NVIDIA; of 512 on gfx942, accumulators included."""
    spilled_bytes: int
    """A thread."""
    shared_bytes: int
    """A program: shared memory, LDS."""


def compile_for(kernel: Kernel, target: str, label: str | None = None) -> Compiled:
    """Compile a kernel's specialisation of that label, by default its first that the target has."""
    choices = {s.label: s for s in kernel.aot_signatures if s.targets is None or target in s.targets}
    if label is not None and label not in choices:
        raise KeyError(f"{kernel.name} has no {label!r} for {target}; it has {', '.join(choices)}")
    signature = choices[label if label is not None else next(iter(choices))]
    compiled = _compile(signature, target)
    amd = TARGETS[target][0] == "hip"
    asm = compiled.asm["amdgcn" if amd else "ptx"]
    registers, spilled = _amd_usage(asm) if amd else _nvidia_usage(asm, int(TARGETS[target][1]))
    instruction = next((name for name, pattern in _CLASSES.items() if re.search(pattern, asm)), "none")
    shared = compiled.metadata.shared
    return Compiled(kernel.name, signature.label, target, asm, instruction, registers, spilled, shared)


def _compile(signature: AotSignature, target: str) -> Any:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from kernels.dtypes import stages

    if triton.knobs.runtime.interpret:
        raise RuntimeError("nothing can be compiled while TRITON_INTERPRET is set")
    names = signature.function.arg_names
    arguments = {name: signature.arguments.get(name, "constexpr") for name in names}
    aligned = [i for i, name in enumerate(names) if arguments[name].startswith("*") or name in signature.aligned]
    source = ASTSource(
        signature.function,
        signature=arguments,
        constexprs=dict(signature.constants),
        attrs={(i,): [["tt.divisibility", 16]] for i in aligned},
    )
    options = {
        "num_warps": signature.num_warps,
        "num_stages": stages(signature.num_stages, target),
        "enable_fp_fusion": True,
    }
    return triton.compile(source, target=GPUTarget(*TARGETS[target]), options=options)


def _nvidia_usage(ptx: str, arch: int) -> tuple[int, int]:
    """Ask ptxas, as triton calls it, for registers and bytes of spill stores a thread."""
    from triton.backends.nvidia.compiler import get_ptxas, sm_arch_from_capability

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        command = [get_ptxas(arch).path, "-v", "--regAllocOptLevel=2", f"--gpu-name={sm_arch_from_capability(arch)}"]
        command += [str(source), "-o", str(source.with_suffix(".cubin"))]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return _number(r"Used (\d+) registers", said), _number(r"(\d+) bytes spill stores", said)


def _amd_usage(asm: str) -> tuple[int, int]:
    """Read vector registers and spilled bytes a thread from the code object's metadata."""
    return _number(r"\.vgpr_count:\s+(\d+)", asm), 4 * _number(r"\.vgpr_spill_count:\s+(\d+)", asm)


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"the compiler's report has no {pattern!r}")
    return int(found.group(1))


def compile_all(kernels: list[str], targets: list[str]) -> Iterator[Compiled]:
    """Compile every specialisation of the kernels for every target that has its data type."""
    for name in kernels:
        for signature in KERNELS[name].aot_signatures:
            for target in targets:
                if signature.targets is None or target in signature.targets:
                    yield compile_for(KERNELS[name], target, signature.label)


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m kernels.aot", description="Compile kernels without a GPU.")
    parser.add_argument("--kernel", action="append", choices=list(KERNELS), help="only this one; may be repeated")
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="only this one; may be repeated")
    given = parser.parse_args(arguments)
    row = "{:<17} {:<22} {:<7} {:<11} {:>9} {:>8} {:>8}"
    print(row.format("kernel", "specialisation", "target", "instruction", "registers", "spills B", "shared B"))
    for c in compile_all(given.kernel or list(KERNELS), given.target or list(TARGETS)):
        numbers = (c.registers, c.spilled_bytes, c.shared_bytes)
        print(row.format(c.kernel, c.label, c.target, c.instruction, *numbers), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
