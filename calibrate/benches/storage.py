"""Reading and writing a file: what a cold start waits for."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

from calibrate.backend import DeviceBackend, Timed
from calibrate.backends.call import Call
from calibrate.benches import Bench, PlanName
from calibrate.case import Case, Work

#: Bytes a request: large enough for every kind of storage to stream.
_CHUNK = 8 * 2**20
_SIZES = {"quick": 2**24, "default": 2**28, "full": 2**30}
#: At most this share of what is free on the disk.
_FREE_FRAC = 0.05


class Storage(Bench):
    """write, read and load (read, then to the device) of a file in the temporary folder, past the page cache.

    Direct where the file system can; else the page cache is dropped after the write reached the disk. A hypervisor
    or disk may still cache. TMPDIR says which file system is measured. Timed by the wall clock.
    """

    name = "storage"

    def cases(self, plan: PlanName, backend: DeviceBackend) -> Sequence[Case]:  # noqa: ARG002 - a contract
        """Return one size a plan: read, load, write; none where the disk is too full."""
        shape = {"bytes": _SIZES[plan], "direct": int(_is_direct(_folder()))}
        if _SIZES[plan] > _free() * _FREE_FRAC:
            return []
        return [Case(self.name, op, "u8", shape) for op in ("read", "load", "write")]

    def prepare(self, case: Case, backend: DeviceBackend) -> Timed:
        """Return the transfer of a file that exists already; the file goes when the call is dropped."""
        file = _File(case.shape["bytes"], bool(case.shape["direct"]))
        if case.op == "write":
            return Call(file.write, "wall", capture=False)
        if case.op == "read":
            return Call(file.read, "wall", capture=False)
        import torch

        target = torch.empty(_CHUNK, dtype=torch.uint8, device=backend.torch_device)
        origin = torch.frombuffer(file.buffer, dtype=torch.uint8)

        def load() -> None:
            file.read(lambda: target.copy_(origin))
            backend.synchronise()

        return Call(load, "wall", capture=False)

    def work(self, case: Case) -> Work:
        """Return the bytes of the file."""
        return Work(0.0, float(case.shape["bytes"]))

    def gaps(self, backend: DeviceBackend) -> Sequence[str]:  # noqa: ARG002 - a contract
        """Return what stands between the numbers and the disk."""
        found = (
            []
            if _is_direct(_folder())
            else [f"storage: {_folder()} has no direct access; the page cache is dropped"]
        )
        full = _free() * _FREE_FRAC < _SIZES["quick"]
        return (
            [*found, f"storage: {_folder()} is too full for a file of {_SIZES['quick']} bytes"]
            if full
            else found
        )


def _folder() -> Path:
    return Path(tempfile.gettempdir())


def _free() -> int:
    told = os.statvfs(_folder())
    return told.f_bavail * told.f_frsize


def _is_direct(folder: Path) -> bool:
    """Say whether files in a folder can be read past the page cache."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        try:
            os.close(os.open(file.name, os.O_RDWR | os.O_DIRECT))
        except (OSError, AttributeError):
            return False
    return True


class _File:
    """A temporary file without a name, written once, and one chunk in memory, aligned as direct access asks."""

    def __init__(self, size: int, direct: bool) -> None:
        self.size, self.direct = size, direct
        self.buffer = mmap.mmap(-1, _CHUNK)
        # Not zeros: some disks store those as holes.
        self.buffer.write(os.urandom(2**16) * (_CHUNK // 2**16))
        descriptor, name = tempfile.mkstemp(dir=_folder())
        os.close(descriptor)
        self.descriptor = os.open(name, os.O_RDWR | (os.O_DIRECT if direct else 0))
        os.unlink(name)
        weakref.finalize(self, os.close, self.descriptor)
        self.write()

    def write(self) -> None:
        """Write it whole, until the disk has it."""
        for offset in range(0, self.size, _CHUNK):
            os.pwritev(self.descriptor, [self.buffer], offset)
        os.fdatasync(self.descriptor)
        self._forget()

    def read(self, after: Timed | None = None) -> None:
        """Read it whole, calling `after` on each chunk."""
        for offset in range(0, self.size, _CHUNK):
            os.preadv(self.descriptor, [self.buffer], offset)
            if after:
                after()
        self._forget()

    def _forget(self) -> None:
        if not self.direct:
            os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
