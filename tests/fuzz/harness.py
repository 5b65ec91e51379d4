"""Runs a property test of hypothesis under Atheris (libFuzzer for Python): its inputs follow the code they reach.

    pip install atheris                       # Linux, CPython; not a dependency of clustersim
    python tests/fuzz/fuzz_scenario.py        # until Ctrl-C, or -max_total_time=60; other libFuzzer flags as well
    python tests/fuzz/fuzz_traces.py cells -max_total_time=60

A finding is printed with its traceback and kept as crash-<hash>; give that file as an argument to run it again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

#: Inputs long enough from the start to be drawn from, as hypothesis does.
_DEFAULTS = ("-max_len=16384", "-len_control=0")
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]


def fuzz(load: Callable[[], Mapping[str, Any]]) -> None:
    """Fuzz one of the tests that `load` imports, the first or the one named by the first argument, for ever."""
    try:
        import atheris
    except ImportError:
        sys.exit(
            "Atheris is not installed: pip install atheris (Linux, CPython), in an environment that has clustersim"
        )
    with atheris.instrument_imports(include=["clustersim"]):
        tests = load()
    name = next(iter(tests))
    if len(sys.argv) > 1 and sys.argv[1] in tests:
        name = sys.argv.pop(1)
    elif len(sys.argv) > 1 and not sys.argv[1].startswith("-") and not Path(sys.argv[1]).exists():
        sys.exit(f'no test "{sys.argv[1]}"; choices: {", ".join(tests)}')
    print(f"fuzzing {name}; others: {', '.join(each for each in tests if each != name)}", file=sys.stderr)
    defaults = [
        each for each in _DEFAULTS if not any(flag.startswith(each.split("=")[0]) for flag in sys.argv)
    ]
    atheris.Setup([sys.argv[0], *defaults, *sys.argv[1:]], tests[name].hypothesis.fuzz_one_input)
    atheris.Fuzz()
