"""Kernels on the GPU that is here, where one is: shapes of models, every dtype that its matrix units have."""

import pytest

from kernels import KERNELS

SHAPES = {
    "stream_copy": (1_000_003,),
    "stream_triad": (1_000_003,),
    "stream_read": (1_000_003,),
    "stream_write": (1_000_003,),
    "gemm": (1100, 2048, 4096),
    "grouped_gemm": ((300, 0, 17, 1, 130), 1408, 2048),
    "paged_gqa_decode": ((1, 4000, 777), 64, 8, 128, 16),
    "paged_mla_decode": ((1, 4000, 777), 128, 64),
    "rmsnorm": (33, 7168),
    "swiglu": (33, 18_432),
}


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("name", list(KERNELS))
def test_kernel_agrees_with_its_reference_on_this_device(name) -> None:
    for package in ("torch", "triton"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'clustersim[kernels]'")
    import torch

    from kernels.dtypes import TOLERANCE
    from kernels.targets import target_of

    if not torch.cuda.is_available():
        pytest.skip("no GPU here: arithmetic is tested in the interpreter, compilation ahead of time")
    kernel, fp8 = KERNELS[name], target_of("cuda").fp8
    for dtype in kernel.dtypes:
        if dtype == fp8 or not dtype.startswith("fp8"):
            inputs = kernel.make_inputs(kernel.shape(*SHAPES[name]), dtype, "cuda", 0)
            assert kernel.error(inputs) <= TOLERANCE[dtype], dtype
