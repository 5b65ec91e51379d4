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

from kernels import KERNELS, AotSignature, Kernel
from kernels.targets import TARGETS, Target

#: Instruction classes, the first found naming a kernel: matrix units by generation, then loads and stores of 16 bytes.
_CLASSES = {
    "tcgen05": r"\btcgen05\.mma\b",
    "wgmma": r"\bwgmma\.mma_async\b",
    "mma.sync": r"\bmma\.sync\b",
    "mfma": r"\bv_mfma_\w+",
    "16-byte": r"\b(ld|st)\.global[\w.:]*\.(v4\.[bf]32|v2\.[bf]64)|\b(global|buffer)_(load|store)_dwordx4",
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
    """Compile a kernel's specialisation of that label for a target, by default its first."""
    choices = {s.label: s for s in kernel.aot_signatures if s.target == target}
    if label is not None and label not in choices:
        raise KeyError(f"{kernel.name} has no {label!r} for {target}; it has {', '.join(choices)}")
    return _compile(kernel.name, choices[label if label is not None else next(iter(choices))])


def _compile(name: str, signature: AotSignature) -> Compiled:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if triton.knobs.runtime.interpret:
        raise RuntimeError("nothing can be compiled while TRITON_INTERPRET is set")
    target, names = TARGETS[signature.target], signature.function.arg_names
    types = {argument: signature.arguments.get(argument, "constexpr") for argument in names}
    aligned = [
        i for i, argument in enumerate(names) if types[argument][0] == "*" or argument in signature.aligned
    ]
    source = ASTSource(
        signature.function,
        signature=types,
        constexprs=dict(signature.constants),
        attrs={(i,): [["tt.divisibility", 16]] for i in aligned},
    )
    options = {"num_warps": signature.num_warps, "num_stages": signature.num_stages, "enable_fp_fusion": True}
    compiled = triton.compile(
        source, target=GPUTarget(target.backend, target.arch, target.warp), options=options
    )
    asm = compiled.asm["ptx" if target.backend == "cuda" else "amdgcn"]
    registers, spilled = _nvidia_usage(asm, target) if target.backend == "cuda" else _amd_usage(asm)
    instruction = next((known for known, pattern in _CLASSES.items() if re.search(pattern, asm)), "none")
    return Compiled(
        name, signature.label, target.name, asm, instruction, registers, spilled, compiled.metadata.shared
    )


def _nvidia_usage(ptx: str, target: Target) -> tuple[int, int]:
    """Ask ptxas, as triton calls it, for registers and bytes of spill stores a thread."""
    from triton.backends.nvidia.compiler import get_ptxas, sm_arch_from_capability

    arch = int(target.arch)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        command = [
            get_ptxas(arch).path,
            "-v",
            "--regAllocOptLevel=2",
            f"--gpu-name={sm_arch_from_capability(arch)}",
        ]
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
    """Compile every specialisation of the kernels for the targets."""
    for name in kernels:
        for signature in KERNELS[name].aot_signatures:
            if signature.target in targets:
                yield _compile(name, signature)


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m kernels.aot", description="Compile kernels without a GPU."
    )
    parser.add_argument(
        "--kernel", action="append", choices=list(KERNELS), help="only this one; may be repeated"
    )
    parser.add_argument(
        "--target", action="append", choices=list(TARGETS), help="only this one; may be repeated"
    )
    given = parser.parse_args(arguments)
    row = "{:<17} {:<23} {:<7} {:<11} {:>9} {:>8} {:>8}"
    print(
        row.format("kernel", "specialisation", "target", "instruction", "registers", "spills B", "shared B")
    )
    for c in compile_all(given.kernel or list(KERNELS), given.target or list(TARGETS)):
        numbers = (c.registers, c.spilled_bytes, c.shared_bytes)
        print(row.format(c.kernel, c.label, c.target, c.instruction, *numbers), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
