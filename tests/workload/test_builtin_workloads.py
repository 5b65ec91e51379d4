from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from derive_deepseek_r1 import TARGET, derive

from clustersim.library import find, names
from clustersim.workload import Workload, generate
from clustersim.yaml_file import read_yaml

STATISTICS = Path(__file__).parents[3] / "shared" / "traces"


def built_in(name):
    return Workload.model_validate(read_yaml(find("workloads", name)).data)


@pytest.mark.parametrize("name", names("workloads"))
def test_every_built_in_workload_makes_requests(name):
    workload = built_in(name)
    assert workload.name == name
    assert workload.source
    assert len(generate(workload, 0, 600.0)) > 100


def test_deepseek_r1_reproduces_the_published_aggregates():
    """ServeGen, data/reason/deepseek-r1: aggregates over all clients and the whole day."""
    requests = generate(built_in("deepseek_r1_production"), 1, 86400.0)
    bins = np.histogram(requests.arrival_s, 144, (0, 86400))[0]
    summary = requests.summary()
    share = requests.thinking_tokens / requests.output_tokens
    assert len(requests) / 86400 == pytest.approx(16.0, rel=0.01)
    assert bins.max() / bins.mean() == pytest.approx(2.66, rel=0.03)
    assert summary.input_tokens.mean == pytest.approx(1268, rel=0.03)
    assert summary.input_tokens.p50 == pytest.approx(208, rel=0.03)
    assert summary.input_tokens.p99 == pytest.approx(23_400, rel=0.03)
    assert summary.output_tokens.mean == pytest.approx(1527, rel=0.03)
    assert summary.output_tokens.p50 == pytest.approx(792, rel=0.03)
    assert summary.output_tokens.p90 == pytest.approx(3432, rel=0.03)
    assert summary.output_tokens.p99 == pytest.approx(12_600, rel=0.03)
    assert summary.output_tokens.highest <= 32_768
    assert share.mean() == pytest.approx(0.70, rel=0.02)
    assert np.quantile(share, [0.1, 0.5, 0.9]) == pytest.approx([0.36, 0.76, 0.95], abs=0.01)


def test_deepseek_r1_is_what_the_published_statistics_give():
    tables = [STATISTICS / f"servegen_r1_{name}.csv" for name in ("rates", "lengths")]
    if not all(table.exists() for table in tables):
        pytest.skip("ServeGen's statistics are not beside this checkout")
    assert TARGET.read_text() == derive(*map(pd.read_csv, tables))
