"""Derive scenarios/workloads/deepseek_r1_production.yaml from ServeGen's per-client statistics.

    python tests/workload/derive_deepseek_r1.py servegen_r1_rates.csv servegen_r1_lengths.csv

The first has client, t_s, rate_per_s and cv for 10-minute windows; the second client, window_start_s,
field and the quantiles q0 to q1 for 6-hour windows.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

NUM_NAMED = 10
BIN_S, WINDOW_S, DAY_S = 600, 21600, 86400
QUANTILES = (0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98,
             0.99, 0.995, 0.999, 1)  # fmt: skip
FIELDS = {"input": ("input_tokens", 0), "output": ("output_tokens", 0), "thinking_share": ("reason_ratio", 3)}
TARGET = Path(__file__).parents[2] / "scenarios/workloads/deepseek_r1_production.yaml"

HEADER = """\
# One day of production traffic to DeepSeek-R1 on Alibaba's model service: {clients} clients,
# {requests:,} requests, {rate:.1f} req/s in the mean.
#
# Source: ServeGen (Xiang et al., arXiv:2505.09999), github.com/alibaba/ServeGen, data/reason/deepseek-r1,
# Apache-2.0. Evidence: published statistics; no request of the trace itself is public.
#
# Aggregated: the {named} clients with the most requests are tenants, the {pooled} others one more ("others").
# - counts: requests in each 10-minute bin of the day, as published (rate x 600 s); two hours a line.
# - cv: coefficient of variation of the gaps, the mean over bins (and clients) weighted by requests.
# - tables: quantiles pooled over the four 6-hour windows (and clients), weighted by requests.
# Only marginals are published, so input, output and thinking share are drawn independently within a tenant,
# and lengths do not vary over the day. The day's zero is the published one; its local time is not stated.
name: deepseek_r1_production
source: "alibaba/ServeGen data/reason/deepseek-r1 (Apache-2.0), 73 clients, 24 h; arXiv:2505.09999"
tenants:
"""


def derive(rates: pd.DataFrame, lengths: pd.DataFrame) -> str:
    """Return the workload's YAML."""
    rates = rates.assign(num=rates.rate_per_s * BIN_S)
    totals = rates.groupby("client").num.sum().sort_values(ascending=False)
    named = list(totals.index[:NUM_NAMED])
    groups = {f"client_{client}": [client] for client in named}
    groups["others"] = list(totals.index[NUM_NAMED:])
    text = HEADER.format(
        clients=len(totals),
        requests=round(totals.sum()),
        rate=totals.sum() / DAY_S,
        named=NUM_NAMED,
        pooled=len(totals) - NUM_NAMED,
    )
    return text + "".join(_tenant(name, clients, rates, lengths) for name, clients in groups.items())


def _tenant(name: str, clients: list[int], rates: pd.DataFrame, lengths: pd.DataFrame) -> str:
    mine = rates[rates.client.isin(clients)]
    counts = mine.groupby("t_s").num.sum().reindex(range(0, DAY_S, BIN_S), fill_value=0).round().astype(int)
    rows = [", ".join(map(str, counts.iloc[at : at + 12])) for at in range(0, len(counts), 12)]
    requests = mine.assign(window=mine.t_s // WINDOW_S * WINDOW_S).groupby(["client", "window"]).num.sum()
    lines = [
        f"  - name: {name}",
        "    arrivals:",
        "      kind: rate_curve",
        "      period: 24 h",
        f"      cv: {np.average(mine.cv, weights=mine.num):.2f}",
        "      bins:",
        "        width: 10 min",
        "        counts: [",
        *(f"          {row}," for row in rows),
        "        ]",
        "    lengths:",
        "      kind: output_with_thinking_share",
    ]
    for key, (field, digits) in FIELDS.items():
        table = _pooled(lengths[lengths.field == field], requests)
        cells = [f"{share:g}: {round(value, digits) if digits else round(value)}" for share, value in table]
        lines += [f"      {key}:", "        kind: quantiles", "        table: {"]
        lines += [f"          {', '.join(cells[at : at + 7])}," for at in range(0, len(cells), 7)]
        lines += ["        }"]
    return "\n".join(lines) + "\n"


def _pooled(tables: pd.DataFrame, requests: pd.Series) -> list[tuple[float, float]]:
    """Return quantiles of the mixture of the clients' and windows' distributions, weighted by `requests`."""
    shares = np.array([float(name[1:]) for name in tables.columns[3:]])
    inner = (np.arange(2000) + 0.5) / 2000
    values, weights = [], []
    for row in tables.itertuples(index=False):
        num = requests.get((row.client, row.window_start_s), 0)
        if num > 0:
            values.append(np.interp(np.concatenate([[0], inner, [1]]), shares, row[3:]))
            weights.append(np.concatenate([[0], np.full(len(inner), num / len(inner)), [0]]))
    order = np.argsort(np.concatenate(values), kind="stable")
    value, weight = np.concatenate(values)[order], np.concatenate(weights)[order]
    reached = (np.cumsum(weight) - weight / 2) / weight.sum()
    mixed = np.interp(QUANTILES[1:-1], reached, value)
    return list(zip(QUANTILES, [value[0], *mixed, value[-1]], strict=True))


if __name__ == "__main__":
    TARGET.write_text(derive(pd.read_csv(sys.argv[1]), pd.read_csv(sys.argv[2])))
