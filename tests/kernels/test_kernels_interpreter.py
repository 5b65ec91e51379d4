"""Kernels' arithmetic, in Triton's interpreter: interpreter_cases.py in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("interpreter_cases.py")


@pytest.mark.slow
def test_kernels_compute_what_their_references_say(tmp_path) -> None:
    for package in ("torch", "triton"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'clustersim[kernels]'")
    environment = os.environ | {
        "TRITON_INTERPRET": "1",
        "TRITON_CACHE_DIR": str(tmp_path),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-rP", str(CASES)]
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        command, check=False, env=environment, cwd=root, capture_output=True, text=True, timeout=280
    )
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    assert "skipped" not in ran.stdout
