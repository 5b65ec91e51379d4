"""The documentation lists what no test reaches without a GPU, exactly."""

from __future__ import annotations

import ast

import gpu_paths


def test_the_page_lists_exactly_what_the_code_has() -> None:
    assert gpu_paths.PAGE.read_text(encoding="utf-8") == gpu_paths.page(), "run python tests/docs/refresh.py"
    assert gpu_paths.table() in gpu_paths.page()


def test_what_is_known_to_need_one_is_found() -> None:
    found = gpu_paths.gpu_paths()
    assert "TorchRuntime" in found["calibrate.backends.cuda"]
    assert {"NvmlMonitor", "TorchMonitor.read"} <= set(found["calibrate.backends.monitor"])
    assert "Rank.join" in found["calibrate.cluster.ranks"], "where NCCL is chosen"
    assert "gemm" in found["kernels.gemm"], "a Triton kernel"
    assert "calibrate.fit" not in found


def test_what_makes_a_function_need_one() -> None:
    code = """
def asks(): return torch.cuda.is_available()
def waits(x): return torch.cuda.synchronize()
def looks(x): return x.is_cuda
def chooses(self): return "nccl" if self.device == "cuda" else "gloo"
def names(): return ("cuda", "nccl")
def counts(self): return self.nvml.nvmlDeviceGetCount()
class Whole:
    def __init__(self): self.device = torch.cuda.current_device()
    def name(self): return self.device
class Parts:
    def one(self): return torch.version.hip
    def other(self): return 1
@triton.jit
def kernel(c): pass
"""
    assert list(gpu_paths._found(ast.parse(code), "")) == [
        "waits", "looks", "chooses", "counts", "Whole", "Parts.one", "kernel"
    ]  # fmt: skip
