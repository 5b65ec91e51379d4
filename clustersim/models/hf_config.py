"""Read a Hugging Face `config.json` as a `ModelSpec`, and find models by name, path or inline mapping."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationError
from pydantic_core import PydanticCustomError

from clustersim import library
from clustersim.errors import InputError, Problem, unknown
from clustersim.json_file import read_json
from clustersim.models.hf_architectures import READERS, REFUSED, ConfigKeys
from clustersim.models.precision import from_quantization_config
from clustersim.models.spec import ModelSpec
from clustersim.text_file import exists, is_file

_MAX_BYTES = 16e6


def from_hf_config(config: Mapping[str, Any], name: str, file: str) -> ModelSpec:
    """Return the spec that a Hugging Face config describes; `file` is the name that errors carry.

    Raises InputError with every missing or odd key. Vision towers and multi-token-prediction layers are
    left out.
    """
    architectures = config.get("architectures")
    architecture = architectures[0] if isinstance(architectures, list) and architectures else architectures
    if architecture not in READERS:
        why = REFUSED.get(str(architecture)) or unknown("architecture", architecture, READERS)
        raise InputError([Problem(f"{file}: architectures", why)])
    text = config.get("text_config")
    keys = ConfigKeys({**config, **text} if isinstance(text, Mapping) else config, file)
    family, read = READERS[str(architecture)]
    fields = read(keys)
    dtype = keys.data.get("torch_dtype") or keys.data.get("dtype") or "bfloat16"
    if dtype not in ("bfloat16", "float16", "float32"):
        keys.refuse("torch_dtype", unknown("data type", dtype, ("bfloat16", "float16", "float32")))
    if keys.problems:
        raise InputError(dict.fromkeys(keys.problems))
    precision = from_quantization_config(
        keys.data.get("quantization_config") or {}, str(dtype), f"{file}: quantization_config"
    )
    try:
        return ModelSpec(name=name, family=family, native_precision=precision, **fields)
    except ValidationError as error:
        raise InputError(
            [
                Problem(
                    f"{file}: {'.'.join(map(str, item['loc']))}", item["msg"].removeprefix("Value error, ")
                )
                for item in error.errors()
            ]
        ) from None


def load_model(name_or_path: str) -> ModelSpec:
    """Return the spec of a built-in model or of a `config.json` (or a folder that holds one).

    A path begins with ".", "/" or "~" or ends in ".json"; all else is a built-in's name in any case, with or
    without its organisation ("deepseek-ai/DeepSeek-R1"), or, failing that, a folder. Raises InputError.
    """
    path = Path(os.path.expanduser(name_or_path))
    if name_or_path.startswith((".", "/", "~")) or path.suffix == ".json":
        return _read(path if is_file(path) or not exists(path / "config.json") else path / "config.json")
    name = _names().get(name_or_path.rsplit("/", 1)[-1].lower())
    if name:
        return _built_in(name)
    if is_file(path / "config.json"):
        return _read(path / "config.json")
    raise InputError(unknown("model", name_or_path, library.names("models"), see="clustersim list models"))


@cache
def _built_in(name: str) -> ModelSpec:
    path = library.find("models", name)
    return from_hf_config(_json(path), name, str(path))


@cache
def _names() -> Mapping[str, str]:
    """Return every name and alias of a built-in model, in lower case, and the built-in it stands for."""
    found = {name: name for name in library.names("models")}
    for name in library.names("models"):
        for alias in _json(library.find("models", name)).get("_aliases", []):
            found.setdefault(alias.lower(), name)
    return found


def _read(path: Path) -> ModelSpec:
    config, beside = _json(path), path.with_name("hf_quant_config.json")
    name = path.resolve().parent.name if path.name == "config.json" else path.stem
    if is_file(beside) and not config.get("quantization_config"):  # where NVIDIA ModelOpt writes it
        stated = _json(beside).get("quantization")
        if not isinstance(stated, dict):
            raise InputError([Problem(f"{beside}: quantization", "is not a mapping of keys")])
        config["quantization_config"] = {
            "quant_algo": stated.get("quant_algo"),
            "kv_cache_scheme": stated.get("kv_cache_quant_algo"),
            "ignore": stated.get("exclude_modules"),
        }
    return from_hf_config(config, name, str(path))


def _json(path: Path) -> dict[str, Any]:
    data = read_json(path, _MAX_BYTES, "is this a config.json?")
    if not isinstance(data, dict):
        raise InputError([Problem(str(path), "is not a mapping of keys")])
    return data


def _resolve(given: object) -> object:
    """Turn a name, a path or a Hugging Face config into a spec; leave a spec or its mapping to pydantic."""
    try:
        if isinstance(given, str):
            return load_model(given)
        if isinstance(given, Mapping) and "architectures" in given:
            return from_hf_config(given, str(given.get("name", "inline")), "inline model")
    except InputError as error:
        raise PydanticCustomError("model", "{why}", {"why": "; ".join(map(str, error.problems))}) from None
    return given


#: A field that holds a model: a name, a path, an inline `config.json`, or the keys of a `ModelSpec`.
ModelRef = Annotated[ModelSpec, BeforeValidator(_resolve, json_schema_input_type=str | ModelSpec)]
