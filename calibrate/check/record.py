"""What a check leaves behind: the profile with its errors, and check.json beside it, both or neither."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calibrate.store import write_manifest
from clustersim.cost.profile import Profile, forget_profiles, read_profile
from clustersim.errors import InputError

CHECK = "check.json"


def save(profile: Profile, report: Mapping[str, Any], folder: Path) -> None:
    """Put the profile and the report into its folder; each file is replaced at once, the profile last.

    Whoever reads meanwhile finds the old profile or the new one, never a part. Raises InputError where the folder
    cannot be written; the profile is then the old one.
    """
    from ruamel.yaml import YAML

    try:
        with tempfile.TemporaryDirectory(prefix=".check.", dir=folder) as scratch:
            made = Path(scratch) / "profile.yaml"
            yaml = YAML()
            yaml.width = 118
            with made.open("w", encoding="utf-8") as file:
                yaml.dump(profile.model_dump(mode="json", exclude_none=True), file)
                file.flush()
                os.fsync(file.fileno())
            read_profile(made)
            (Path(scratch) / CHECK).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            os.replace(Path(scratch) / CHECK, folder / CHECK)
            os.replace(made, folder / "profile.yaml")
        write_manifest(folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}") from None
    forget_profiles()
