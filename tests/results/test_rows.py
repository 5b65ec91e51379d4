"""The order of rows and the names in them, against loops that need no thought."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from clustersim.records import RequestRecords
from clustersim.results.tenants import in_order, tenant_names

ARRIVALS = st.lists(st.none() | st.integers(0, 5), max_size=12)
NAMES = st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3), min_size=1, max_size=3)


@given(ARRIVALS)
def test_rows_are_those_issued_in_order_of_arrival(times):
    records = RequestRecords(4)
    records.extend({"arrival_s": np.array([np.nan if time is None else time for time in times])})
    issued = [row for row, time in enumerate(times) if time is not None]
    expected = sorted(issued, key=lambda row: times[row])
    assert np.arange(len(times))[in_order(records)].tolist() == expected


@given(NAMES, st.data())
def test_tenants_are_named_as_pandas_would(names, data):
    scenario = SimpleNamespace(
        workloads=[
            SimpleNamespace(all_tenants=[SimpleNamespace(name=name) for name in each]) for each in names
        ]
    )
    which = data.draw(
        st.lists(
            st.sampled_from([(w, t) for w, each in enumerate(names) for t in range(len(each))]), min_size=1
        )
    )
    workload, tenant = np.array(which).T
    found = tenant_names(scenario, workload, tenant)  # type: ignore[arg-type]
    expected = pd.Categorical([names[w][t] for w, t in which])
    assert list(found) == list(expected)
    assert list(found.categories) == list(expected.categories)
