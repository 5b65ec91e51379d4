"""Claims made in public about test-time compute and scaling, each reproduced and judged.

One YAML file a claim in `scenarios/claims/` (`clustersim list claims`): what was said, and how it is checked.

    claims = load_claims(["A8", "B2"])                  claim.py, load.py
    findings = check(claims)                            Finding: values, answer, verdict        check.py

A check is formulas over quantities with units (`formula.py`). What they may use depends on its kind: figures of the
library and published ones (`inputs.py`), functions of the quality model (`functions.py`), metrics of training jobs
and of simulated runs (`measured.py`). The verdict follows from rules (`verdict.py`), never from a word in a file.
"""

from clustersim.study.claims.check import Finding, check
from clustersim.study.claims.load import load_claims

__all__ = ["Finding", "check", "load_claims"]
