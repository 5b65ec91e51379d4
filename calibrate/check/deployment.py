"""The served model as the simulator sees it: a config on one device of the profile, and its predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from calibrate.check.model import PAGE
from clustersim.cost.profile import Profile
from clustersim.errors import InputError
from clustersim.models.step import StepShape
from clustersim.scenario.plan import DeploymentPlan, plan
from clustersim.scenario.schema import Scenario
from clustersim.simulation import simulate
from clustersim.workload.generate import Requests, generate

#: Requests that come at once to learn what the deployment can do at most.
_CAPACITY_REQUESTS = 200


@dataclass(frozen=True)
class ServedShape:
    """The model that is built and served."""

    layers: int = 6
    hidden: int = 768
    heads: int = 12
    kv_heads: int = 4
    inner: int = 2048
    vocab: int = 32000
    max_context: int = 4096

    def hf_config(self, dtype: str) -> dict[str, Any]:
        """Return the model's `config.json`."""
        return {
            "name": f"served-{self.hidden}x{self.layers}", "architectures": ["LlamaForCausalLM"],
            "hidden_size": self.hidden, "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads, "intermediate_size": self.inner, "vocab_size": self.vocab,
            "max_position_embeddings": self.max_context, "tie_word_embeddings": False,
            "torch_dtype": {"bf16": "bfloat16", "fp32": "float32"}[dtype],
        }  # fmt: skip


@dataclass(frozen=True)
class HostTimes:
    """What the engine's own code takes each step, in seconds: at all, and for each sequence."""

    step_s: float = 0.0
    sequence_s: float = 0.0


@dataclass(frozen=True)
class Prediction:
    """Latencies in seconds that the simulator gives for a load: name -> one a request."""

    latencies_s: Mapping[str, np.ndarray]
    regime: str
    utilisation: float


@dataclass(frozen=True)
class Deployment:
    """One replica of the served model on the profile's device, with `num_blocks` KV blocks."""

    profile: Profile
    shape: ServedShape
    dtype: str
    num_blocks: int
    token_budget: int = 2048
    max_num_seqs: int = 64
    host: HostTimes = HostTimes()

    def scenario(self, workload: Mapping[str, Any], memory_frac: float = 1.0) -> Scenario:
        """Return the scenario of the deployment under a load."""
        node = {"base": "local-cpu", "accelerator": self.profile.device}
        source = {"evidence": "measured", "source": "timed without a model by calibrate check"}
        engine = {
            "name": "calibrate-check", "overlapped": False, "cuda_graph_max_batch": 0, "memory_frac": memory_frac,
            "step_overhead": {"value": f"{self.host.step_s!r} s", **source},
            "sequence_overhead": {"value": f"{self.host.sequence_s!r} s", **source},
            "reserved": {"value": "0 B", "source": "KV blocks are given"}, "block_size": PAGE,
        }  # fmt: skip
        deployment = {
            "name": "served", "model": self.shape.hf_config(self.dtype), "on": "here", "serving_engine": engine,
            "profile": self.profile.name, "precision": self.dtype,
            "scheduler": {
                "kind": "chunked_prefill", "token_budget": self.token_budget, "max_num_seqs": self.max_num_seqs
            },
        }  # fmt: skip
        return Scenario.model_validate(
            {
                "name": "calibrate check", "warm_up": "none", "deployments": [deployment], "workloads": [workload],
                "fleet": [{"site": "us-average", "clusters": [{"name": "here", "node": node}]}],
            }
        )  # fmt: skip

    @cached_property
    def memory_frac(self) -> float:
        """Return the share of memory with which the simulator counts `num_blocks` KV blocks."""
        memory = plan(self.scenario(_AT_ONCE))[0].memory
        wanted = memory.taken_bytes + (self.num_blocks + 0.5) * memory.kv_bytes_per_token * PAGE
        if wanted > memory.capacity_bytes:
            raise InputError(
                f"the served model and {self.num_blocks * PAGE:,} tokens of cache need {wanted / 1e9:.1f} GB of "
                f"{memory.capacity_bytes / 1e9:.1f} GB: give fewer --layers"
            )
        return wanted / memory.capacity_bytes

    @cached_property
    def plan(self) -> DeploymentPlan:
        """Return how the simulator sees the deployment."""
        return plan(self.scenario(_AT_ONCE, self.memory_frac))[0]

    def step_s(self, shape: StepShape) -> float:
        """Return the seconds that the cost model gives a step's operators."""
        return float(self.plan.cost.device_s(shape, graph=False))

    def operators_s(self, shape: StepShape) -> dict[str, float]:
        """Return the same by operator."""
        cost, found = self.plan.cost, dict[str, float]()
        for op in cost.ops(shape):
            found[op.name] = found.get(op.name, 0.0) + op.count * float(cost.estimate(op, False).seconds)
        return found

    def roofline_s(self, shape: StepShape) -> float:
        """Return the sum of the operators' raw rooflines: no fitted constant in it."""
        cost, total = self.plan.cost, 0.0
        for op in cost.ops(shape):
            _, peak = cost.fit(op.family, op.dtype)
            bandwidth = cost.device.memory_bandwidth_bytes_per_s.value
            total += op.count * max(float(op.flops) / peak, float(op.bytes) / bandwidth)
        return total

    def with_host(self, host: HostTimes) -> Deployment:
        """Return the deployment on an engine whose own code takes these times."""
        return replace(self, host=host)

    def load(self, seconds: float, share: float, seed: int) -> tuple[Mapping[str, Any], Requests]:
        """Return a Poisson load of `share` of the predicted capacity for so long, and its requests."""
        result = simulate(self.scenario(_AT_ONCE, self.memory_frac), seed)
        rate = share * float(result["request_throughput"])
        workload = _LOAD | {
            "arrivals": {"kind": "poisson", "rate": f"{rate!r} req/s"},
            "num_requests": max(8, round(rate * seconds)),
        }
        return workload, generate(self.scenario(workload).workloads[0], seed)

    def predict(self, workload: Mapping[str, Any], seed: int) -> Prediction:
        """Return what the simulator says of a load."""
        result = simulate(self.scenario(workload, self.memory_frac), seed)
        rows = result.requests
        output = (rows["thinking_tokens"] + rows["answer_tokens"]).to_numpy(dtype=float)
        arrival, first, finish = (
            rows[name].to_numpy(dtype=float) for name in ("arrival_s", "first_token_s", "finish_s")
        )
        return Prediction(
            latencies(arrival, first, finish, output), str(result["regime"]), float(result["utilisation"])
        )


def latencies(
    arrival_s: np.ndarray, first_s: np.ndarray, finish_s: np.ndarray, output_tokens: np.ndarray
) -> dict[str, np.ndarray]:
    """Return ttft, tpot and e2el of requests in seconds, as vLLM's benchmark defines them."""
    several = output_tokens > 1
    return {
        "ttft": first_s - arrival_s,
        "tpot": ((finish_s - first_s)[several] / (output_tokens - 1)[several]),
        "e2el": finish_s - arrival_s,
    }


_LOAD: dict[str, Any] = {
    "name": "load",
    "lengths": {
        "kind": "independent",
        "input": {"kind": "uniform", "low": 16, "high": 256},
        "answer": {"kind": "uniform", "low": 8, "high": 48},
    },
}
_AT_ONCE: dict[str, Any] = _LOAD | {
    "arrivals": {"kind": "all_at_once"},
    "num_requests": _CAPACITY_REQUESTS,
}
