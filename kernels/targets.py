"""The architectures that kernels are tiled and compiled for. Needs neither torch nor triton."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """An architecture: what triton calls it, and the limits that tiles must keep within."""

    name: str
    backend: str
    """cuda or hip."""
    arch: int | str
    warp: int
    """Threads."""
    shared_bytes: int
    """Most that a program may have."""
    registers: int
    """Most that a thread may have."""
    fp8: str | None
    """Which e4m3 its matrix units multiply, by name in `kernels.dtypes`."""
    wide: bool
    """Whether accumulators of 128 x 256 leave a thread registers to work with."""

    def stages(self, wanted: int) -> int:
        """Return how deep to pipeline loads: LDS of 64 KB holds one tile of operands, the next waits in registers."""
        return wanted if self.backend == "cuda" else min(wanted, 2)


#: Limits of the hardware: CUDA C++ Programming Guide, technical specifications per compute capability; AMD Instinct
#: MI300 (CDNA 3) instruction set reference guide.
TARGETS = {
    "sm_80": Target(
        "sm_80", "cuda", 80, 32, 99 * 1024, 255, None, False
    ),  # 163 KB; 8.6, 8.9 and 12.0 have 99
    "sm_90": Target("sm_90", "cuda", 90, 32, 227 * 1024, 255, "fp8", True),
    "sm_100": Target("sm_100", "cuda", 100, 32, 227 * 1024, 255, "fp8", True),
    "gfx942": Target("gfx942", "hip", "gfx942", 64, 64 * 1024, 512, "fp8_fnuz", True),
}


def target_of(device: str) -> Target:
    """Return the target whose tiles suit a torch device: its own, or that of its family with the least memory."""
    import torch

    if not device.startswith("cuda"):
        return TARGETS["sm_80"]  # the interpreter takes any
    if torch.version.hip is not None:
        return TARGETS["gfx942"]
    major, _ = torch.cuda.get_device_capability(device)
    return {9: TARGETS["sm_90"], 10: TARGETS["sm_100"]}.get(major, TARGETS["sm_80"])
