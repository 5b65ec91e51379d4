"""What clustersim knows: the built-in specs and scenarios, and every registered kind, as tables of plain rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from clustersim import library
from clustersim.cost.host import ServingEngine
from clustersim.errors import InputError, unknown
from clustersim.hardware.accelerator import load_accelerator
from clustersim.hardware.link import load_link
from clustersim.hardware.node import load_node
from clustersim.hardware.reference import load
from clustersim.hardware.site import load_site
from clustersim.kinds import FAMILIES, kinds
from clustersim.models.hf_config import load_model
from clustersim.quality.benchmark import load_benchmark
from clustersim.quality.trained_model import load_trained_model
from clustersim.units import GIGA, KWH_J, TERA, si
from clustersim.yaml_file import read_yaml

Row = dict[str, Any]


def _accelerator(name: str) -> Row:
    chip = load_accelerator(name)
    tco = chip.tco_neocloud_usd_per_s
    fp8 = chip.fp8_flops_per_s
    return {
        "name": name,
        "vendor": chip.vendor,
        "year": chip.year,
        "bf16 TFLOP/s": round(chip.bf16_flops_per_s.value / TERA, 1),
        "fp8": round(fp8.value / TERA, 1) if fp8 else None,
        "memory GB": round(chip.memory_bytes.value / GIGA, 1),
        "GB/s": round(chip.memory_bandwidth_bytes_per_s.value / GIGA),
        "TDP W": round(chip.tdp_w.value),
        "TCO $/h": round(tco.value * 3600, 2) if tco else None,
    }


def _model(name: str) -> Row:
    spec = load_model(name)
    return {
        "name": name,
        "parameters": si(spec.num_parameters, "", 4),
        "active": si(spec.num_active_parameters, "", 4),
        "layers": spec.num_layers,
        "attention": spec.attention.kind,
        "experts": spec.moe.num_experts if spec.moe else None,
        "KV kB/token": round(spec.kv_bytes_per_token() / 1000, 1),
        "context": spec.max_context,
        "published as": spec.native_precision.weights,
    }


def _node(name: str) -> Row:
    node = load_node(name)
    return {
        "name": name,
        "accelerators": f"{node.count} x {node.accelerator.name}",
        "scale-up": node.scale_up.name if node.scale_up else None,
        "network": f"{node.nics_per_accelerator:g} x {node.nic.name} each",
        "kW max": round(node.max_w / 1000, 2),
    }


def _link(name: str) -> Row:
    link = load_link(name)
    return {
        "name": name,
        "kind": link.kind,
        "topology": link.topology,
        "GB/s each way": round(link.bandwidth_bytes_per_s.value / GIGA, 2),
        "latency": si(link.latency_s.value, "s"),
        "evidence": link.bandwidth_bytes_per_s.evidence,
    }


def _site(name: str) -> Row:
    site = load_site(name)
    return {
        "name": name,
        "$/kWh": round(site.electricity_usd_per_j.value * KWH_J, 4),
        "gCO2e/kWh": round(site.carbon_g_per_j.value * KWH_J),
        "PUE": site.pue.value,
        "where": site.description,
    }


def _benchmark(name: str) -> Row:
    benchmark = load_benchmark(name)
    return {
        "name": name,
        "problems": benchmark.num_problems,
        "guessing": f"{benchmark.floor.value:.0%}",
        "best": f"{benchmark.cap.value:.0%}",
        "anchors": ", ".join(f"{each.model.name} {each.accuracy.value:.1%}" for each in benchmark.anchors),
    }


def _trained_model(name: str) -> Row:
    model = load_trained_model(name)
    return {
        "name": name,
        "family": model.family,
        "year": model.year,
        "reasons": "yes" if model.reasoning_trained else "no",
        "parameters": si(model.parameters.value) if model.parameters else None,
        "training tokens": si(model.train_tokens.value) if model.train_tokens else None,
        "about": model.description,
    }


def _engine(name: str) -> Row:
    engine = load("engines", ServingEngine, name)
    return {
        "name": name,
        "host a step": si(engine.step_overhead_s.value, "s"),
        "a sequence": si(engine.sequence_overhead_s.value, "s"),
        "hidden behind the device": "yes" if engine.overlapped else "no",
        "frontend": si(engine.frontend_s.value, "s"),
        "evidence": engine.step_overhead_s.evidence,
        "kernels": engine.kernels,
        "memory": engine.memory_frac,
        "block tokens": engine.block_size,
    }


def _yaml(shelf: str) -> Callable[[str], Row]:
    def row(name: str) -> Row:
        data = read_yaml(library.find(shelf, name)).data
        about = data.get("claim") or data.get("description") or data.get("source") or data.get("name", "")
        return {"name": name, "about": " ".join(str(about).split())}

    return row


_SHELVES: Mapping[str, Callable[[str], Row]] = MappingProxyType(
    {
        "accelerators": _accelerator,
        "nodes": _node,
        "links": _link,
        "sites": _site,
        "models": _model,
        "engines": _engine,
        "workloads": _yaml("workloads"),
        "scenarios": _yaml("scenarios"),
        "studies": _yaml("studies"),
        "benchmarks": _benchmark,
        "trained_models": _trained_model,
        "claims": _yaml("claims"),
    }
)


def _plural(word: str) -> str:
    if word.endswith("y"):
        return f"{word.removesuffix('y')}ies"
    if word.endswith("x"):
        return f"{word}es"
    return word if word.endswith("s") else f"{word}s"


#: What a list of each family of kinds is called.
_FAMILY_LISTS: Mapping[str, str] = MappingProxyType({_plural(family): family for family in FAMILIES})
SUBJECTS = (*_SHELVES, *_FAMILY_LISTS)


def catalogue(subject: str) -> list[Row]:
    """Return one row a thing of this subject; raises InputError for a subject that does not exist."""
    if subject in _SHELVES:
        return [_SHELVES[subject](name) for name in library.names(subject)]
    if subject not in _FAMILY_LISTS:
        raise InputError(unknown("list of", subject, SUBJECTS))
    rows = []
    for kind, part in kinds(_FAMILY_LISTS[subject]).items():
        settings = [field.alias or name for name, field in part.model_fields.items() if name != "kind"]
        doc = (inspect.getdoc(part) or "").split("\n\n")[0]
        rows.append({"kind": kind, "settings": ", ".join(settings), "about": " ".join(doc.split())})
    return rows
