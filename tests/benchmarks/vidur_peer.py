"""Run Vidur on a case of bench_vidur.py, inside an environment that has it: vidur_peer.py CASE.json REQUESTS.csv.

Vidur reads its operator times from data sets on Hugging Face. Here they are replaced, in its own tables and looked up by
its own code, with the step times of the case, so that both simulators batch the same requests alike and no network is
needed. The last line printed is JSON: CPU seconds, requests, tokens, and mean latency.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_STARTED = time.process_time()

from vidur.config import SimulationConfig  # noqa: E402
from vidur.config.config import (  # noqa: E402
    CacheConfig,
    ClusterConfig,
    LORGlobalSchedulerConfig,
    MetricsConfig,
    RandomForrestExecutionTimePredictorConfig,
    ReplicaConfig,
    SarathiSchedulerConfig,
    TraceRequestGeneratorConfig,
)
from vidur.execution_time_predictor.sklearn_execution_time_predictor import (  # noqa: E402
    SklearnExecutionTimePredictor,
)
from vidur.simulator import Simulator  # noqa: E402

#: Operators whose times Vidur adds up, by the tokens of a batch; all of a step but its attention is put into the first.
_BY_TOKENS = (
    "mlp_up_proj", "attn_pre_proj", "attn_post_proj", "mlp_down_proj", "mlp_act", "attn_rope", "attn_kv_cache_save",
    "input_layernorm", "post_attention_layernorm", "add",
)  # fmt: skip


def tables(case: dict[str, Any]) -> dict[str, dict[tuple[int, ...], float]]:
    """Return Vidur's tables, in milliseconds a layer, that give the step times of the case."""
    layers, step = case["num_layers"], case["kv_granularity"]
    other = {(tokens + 1,): seconds * 1e3 / layers for tokens, seconds in enumerate(case["other_s"])}
    found = {name: dict.fromkeys(other, 0.0) for name in _BY_TOKENS} | {"mlp_up_proj": other}
    found["attn_decode"] = {
        (batch + 1, index * step): seconds
        * 1e3
        / layers
        / (1.1 if batch else 1.0)  # its own factor for a batch
        for batch, row in enumerate(case["decode_s"])
        for index, seconds in enumerate(row)
    }
    kv = range(0, case["max_tokens"] + step, step)
    found["attn_prefill"] = {(size, chunk): 0.0 for size in kv for chunk in range(32, case["chunk"] + 32, 32)}
    return found


def main() -> None:
    """Run the case and print what it took."""
    case = json.loads(Path(sys.argv[1]).read_text())
    given = tables(case)
    SklearnExecutionTimePredictor._load_predictions_from_hf = lambda _self: given
    with tempfile.TemporaryDirectory() as folder:
        config = SimulationConfig(
            cluster_config=ClusterConfig(
                num_replicas=case["replicas"],
                replica_config=ReplicaConfig(num_pipeline_stages=1, tensor_parallel_size=1),
                cache_config=CacheConfig(num_blocks=case["num_blocks"]),
                global_scheduler_config=LORGlobalSchedulerConfig(),
                replica_scheduler_config=SarathiSchedulerConfig(
                    chunk_size=case["chunk"], batch_size_cap=case["max_batch"]
                ),
            ),
            request_generator_config=TraceRequestGeneratorConfig(
                trace_file=sys.argv[2], date="day", prefill_scale_factor=1, decode_scale_factor=1,
                time_scale_factor=1, max_tokens=case["max_tokens"],
            ),
            execution_time_predictor_config=RandomForrestExecutionTimePredictorConfig(
                cache_dir=f"{folder}/cache", kv_cache_prediction_granularity=case["kv_granularity"],
                prediction_max_batch_size=case["max_batch"], use_native_execution_time_predictor=True,
            ),
            metrics_config=MetricsConfig(output_dir=folder, store_plots=False, enable_chrome_trace=False),
        )  # fmt: skip
        ready, wall = time.process_time(), time.perf_counter()
        simulator = Simulator(config)
        requests = [event._request for _, event in simulator._event_queue]
        simulator.run()
        done, wall_s = time.process_time(), time.perf_counter() - wall
    latency = sum(request.completed_at - request.arrived_at for request in requests) / len(requests)
    print(json.dumps({
        "requests": len(requests), "tokens": sum(request.total_tokens for request in requests),
        "cpu_s": done - ready, "wall_s": wall_s, "start_up_s": ready - _STARTED, "mean_e2el_s": latency,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
