"""The devices that calibrate can measure. torch is imported when one is picked, not before."""

from __future__ import annotations

from calibrate.backend import DeviceBackend
from clustersim.errors import InputError, unknown

#: Names that `pick_backend` knows; ROCm answers to torch's CUDA interface.
BACKENDS = ("cpu", "cuda", "rocm")


def pick_backend(name: str | None = None, threads: int = 1) -> DeviceBackend:
    """Return the backend of a name; without one the GPU where torch finds one, else the CPU.

    `threads` is for the CPU alone: with one, it is timed by the thread's CPU time, else by the wall clock.
    Raises InputError for an unknown name and RuntimeError where torch finds no such device.
    """
    if name not in (None, *BACKENDS):
        raise InputError(unknown("backend", name, BACKENDS))
    if name != "cpu":
        from calibrate.backends.cuda import CudaBackend, TorchRuntime

        if TorchRuntime.available():
            return CudaBackend(TorchRuntime())
        if name is not None:
            raise RuntimeError(
                f"torch finds no {name} device; --backend cpu measures this machine's processor"
            )
    from calibrate.backends.cpu import CpuBackend

    return CpuBackend(threads)
