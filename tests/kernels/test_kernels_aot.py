"""Kernels compile for accelerators that are not here: instructions, registers, spills, shared memory."""

import pytest

from kernels import KERNELS
from kernels.targets import TARGETS

pytestmark = pytest.mark.slow

MATRIX_UNITS = {"sm_80": "mma.sync", "sm_90": "wgmma", "sm_100": "tcgen05", "gfx942": "mfma"}
THIN = {"sm_80": "mma.sync", "sm_90": "mma.sync", "sm_100": "mma.sync", "gfx942": "mfma"}
#: Kernel, specialisation (None: the first) and the class of instructions it must be made of.
CASES = [
    *((name, None, dict.fromkeys(TARGETS, "16-byte")) for name in KERNELS if name.startswith("stream_")),
    ("rmsnorm", None, dict.fromkeys(TARGETS, "16-byte")),
    ("swiglu", None, dict.fromkeys(TARGETS, "16-byte")),
    ("gemm", "bf16 m8192", MATRIX_UNITS),
    ("gemm", "bf16 m64", MATRIX_UNITS),
    ("gemm", "bf16 m1", THIN),
    ("grouped_gemm", "bf16 m512", MATRIX_UNITS),
    ("paged_gqa_decode", None, THIN),
    ("paged_gqa_decode", "bf16 merge of 8", dict.fromkeys(TARGETS, "16-byte")),
    ("paged_mla_decode", "bf16 h128 p64 s8", MATRIX_UNITS),
    ("paged_mla_decode", "bf16 h128 p64 s1", MATRIX_UNITS),
    ("paged_mla_decode", "fp16 h16 p16 s1", THIN),
]


@pytest.fixture(scope="module", autouse=True)
def compiler(tmp_path_factory):
    for package in ("torch", "triton"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'clustersim[kernels]'")
    import triton

    with triton.knobs.cache.scope():
        triton.knobs.cache.dir = str(tmp_path_factory.mktemp("triton"))
        yield


def check(kernel, target, label, instruction):
    from kernels.aot import compile_for

    compiled = compile_for(KERNELS[kernel], target, label)
    assert compiled.instruction == instruction
    assert 0 < compiled.registers <= TARGETS[target].registers
    assert compiled.spilled_bytes == 0
    assert compiled.shared_bytes <= TARGETS[target].shared_bytes
    return compiled


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("kernel", "label", "instructions"), CASES)
def test_kernel_compiles(kernel, label, instructions, target) -> None:
    check(kernel, target, label, instructions[target])


@pytest.mark.parametrize("target", [name for name, target in TARGETS.items() if target.fp8])
def test_fp8_products_use_fp8_instructions(target) -> None:
    compiled = check("gemm", target, f"{TARGETS[target].fp8} m8192", MATRIX_UNITS[target])
    assert {"sm_90": "f32.e4m3.e4m3", "sm_100": "kind::f8f6f4", "gfx942": "fp8_fp8"}[target] in compiled.asm


def test_every_kernel_is_compiled_here() -> None:
    assert {name for name, _, _ in CASES} == set(KERNELS)


def test_every_kernel_has_a_specialisation_for_every_target() -> None:
    for kernel in KERNELS.values():
        described = [(signature.target, signature.label) for signature in kernel.aot_signatures]
        assert {target for target, _ in described} == set(TARGETS)
        assert len(set(described)) == len(described)


def test_unknown_specialisations_are_refused_with_the_list() -> None:
    from kernels.aot import compile_for

    with pytest.raises(KeyError, match=r"no 'fp8 m8192' for sm_80; it has bf16 m8192, bf16 m256"):
        compile_for(KERNELS["gemm"], "sm_80", "fp8 m8192")


def test_table(capsys) -> None:
    from kernels.aot import main

    assert main(["--kernel", "swiglu", "--target", "sm_90"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["kernel", "specialisation", "target"]
    assert row.split()[:4] == ["swiglu", "bf16", "sm_90", "16-byte"]


def test_nothing_is_compiled_while_interpreting() -> None:
    import triton

    with triton.knobs.runtime.scope():
        triton.knobs.runtime.interpret = True
        with pytest.raises(RuntimeError, match="while TRITON_INTERPRET is set"):
            check("swiglu", "sm_90", None, "16-byte")
