"""What a running engine showed, read from each format, and what is said of a file that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clustersim.errors import InputError
from clustersim.study.observations import read_observations

BENCH = {
    "date": "20260101-000000", "backend": "vllm", "num_prompts": 4, "request_rate": 2.0, "duration": 3.0,
    "completed": 4, "total_input_tokens": 400, "total_output_tokens": 80, "request_throughput": 1.33,
    "output_throughput": 26.7, "mean_ttft_ms": 51.5, "median_ttft_ms": 50.0, "p99_ttft_ms": 60.0,
    "mean_tpot_ms": 9.5, "median_tpot_ms": 9.4, "std_tpot_ms": 0.1, "mean_itl_ms": 9.6,
}  # fmt: skip
AIPERF = {
    "schema_version": "1.0",
    "request_throughput": {"unit": "requests/sec", "avg": 1.33},
    "output_token_throughput": {"unit": "tokens/sec", "avg": 26.7},
    "request_count": {"unit": "requests", "avg": 4},
    "time_to_first_token": {"unit": "ms", "avg": 51.5, "p50": 50.0, "p90": 58.0, "p99": 60.0, "std": 1.0},
    "inter_token_latency": {"unit": "ms", "avg": 9.5, "p50": 9.4},
    "request_latency": {"unit": "s", "avg": 0.25},
    "input_sequence_length": {"unit": "tokens", "avg": 100.0},
    "output_sequence_length": {"unit": "tokens", "avg": 20.0},
}
SCRAPE = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:num_preemptions_total{engine="0",model_name="m"} 2.0
vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="0",num_gpu_blocks="27915",num_cpu_blocks="None"} 1.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="m"} 0.1
vllm:time_to_first_token_seconds_sum{engine="1",model_name="m"} 0.106
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1",model_name="m"} 4.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 2.0
vllm:time_to_first_token_seconds_count{engine="1",model_name="m"} 2.0
vllm:inter_token_latency_seconds_sum{engine="0",model_name="m"} 0.76
vllm:inter_token_latency_seconds_count{engine="0",model_name="m"} 80.0
vllm:e2e_request_latency_seconds_sum{engine="0",model_name="m"} 1.0
vllm:e2e_request_latency_seconds_count{engine="0",model_name="m"} 4.0
vllm:request_prompt_tokens_sum{engine="0",model_name="m"} 400.0
vllm:request_prompt_tokens_count{engine="0",model_name="m"} 4.0
python_gc_objects_collected_total{generation="0"} 1e+03 1712345678901
"""


def write(tmp_path: Path, text: str | dict[str, object]) -> Path:
    path = tmp_path / "observed"
    path.write_text(text if isinstance(text, str) else json.dumps(text, indent=1))
    return path


def refused(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as error:
        read_observations(path)
    for word in (str(path), *words):
        assert word in str(error.value)


def test_vllm_bench(tmp_path: Path) -> None:
    seen = read_observations(write(tmp_path, BENCH))
    assert (seen.format, seen.num_requests, seen.mean_input_tokens) == ("vllm_bench", 4, 100.0)
    assert seen.metrics["mean_ttft_ms"] == 51.5
    assert seen.metrics["output_throughput"] == 26.7
    assert "std_tpot_ms" not in seen.metrics
    assert seen.kv_blocks is None


def test_aiperf_units_and_names(tmp_path: Path) -> None:
    seen = read_observations(write(tmp_path, AIPERF))
    assert (seen.format, seen.num_requests, seen.mean_output_tokens) == ("aiperf", 4, 20.0)
    assert seen.metrics["mean_e2el_ms"] == 250.0
    assert seen.metrics["mean_tpot_ms"] == 9.5, "its inter-token latency is a request's mean"
    assert seen.metrics["p90_ttft_ms"] == 58.0


def test_prometheus_means_add_up_over_engines(tmp_path: Path) -> None:
    seen = read_observations(write(tmp_path, SCRAPE))
    assert (seen.format, seen.kv_blocks, seen.block_size, seen.num_requests) == ("prometheus", 27915, 16, 4)
    assert seen.metrics["mean_ttft_ms"] == pytest.approx(51.5)
    assert seen.metrics["mean_itl_ms"] == pytest.approx(9.5)
    assert seen.mean_input_tokens == 100.0
    assert dict(seen.facts) == {"preemptions": 2.0, "running": 3.0, "kv_used": 0.25}


def test_what_cannot_be_used_is_told_with_its_line(tmp_path: Path) -> None:
    refused(write(tmp_path, ""), "is empty")
    refused(write(tmp_path, "time,tokens\n1,2\n"), "no known format", "vllm_bench, aiperf, prometheus")
    refused(write(tmp_path, '{\n "mean_ttft_ms": 3,\n}'), "observed:3: not valid JSON")
    refused(write(tmp_path, BENCH | {"mean_ttft_ms": "fast"}), 'observed:12: mean_ttft_ms is "fast"')
    refused(write(tmp_path, BENCH | {"mean_ttft_ms": -1.0}), "at least 0 is needed")
    refused(write(tmp_path, BENCH | {"completed": 0}), "no request was completed")
    refused(write(tmp_path, AIPERF | {"request_latency": {"unit": "days", "avg": 1}}), '"days"', "ms")
    refused(write(tmp_path, AIPERF | {"request_latency": 3}), "no block of statistics")
    refused(write(tmp_path, SCRAPE + "vllm:num_requests_running\n"), "observed:19: is no Prometheus sample")
    refused(write(tmp_path, SCRAPE.replace("0.76", "many")), "observed:12: vllm:inter_token", '"many"')
    refused(write(tmp_path, SCRAPE.replace("27915", "0")), "num_gpu_blocks")
    refused(write(tmp_path, "# TYPE vllm:x gauge\nvllm:x 1\n"), "holds no latency")
    with pytest.raises(InputError, match="does not exist"):
        read_observations(tmp_path / "absent.json")
