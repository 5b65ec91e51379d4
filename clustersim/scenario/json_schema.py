"""The JSON schema of scenario files, for editors and checks."""

from __future__ import annotations

from typing import Any

from clustersim import library
from clustersim.scenario.schema import Scenario


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of scenario files, `extends` and `workload` included."""
    schema = Scenario.model_json_schema()
    properties = schema["properties"]
    properties["extends"] = {
        "type": "string",
        "description": "A file beside this one, or a built-in scenario.",
    }
    properties["models"] = {"type": "object", "description": "Models by name: a config.json, or its content."}
    properties["workload"] = properties["workloads"]["items"]
    schema["$defs"]["Workload"]["properties"]["use"] = {
        "enum": list(library.names("workloads")),
        "description": "The built-in workload that these settings start from.",
    }
    schema["required"] = [name for name in schema["required"] if name != "workloads"]
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema
