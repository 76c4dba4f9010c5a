"""What needs a process of its own: the time to the first step, and memory at its peak.

Convention of this module: each way runs twice, with an empty folder for compiled code and with what the first run left
in it. The one place with seconds: a first step is long or short to a person, not to another library.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks.tasks import PUBLISHED
from benchmarks.ways import WAYS

__all__ = ["CASES", "Alone", "measure"]

CASES = (PUBLISHED[0], "10 latent sites")

Alone = dict[str, dict[str, dict[str, Any]]]
"""By case and way: ``cold`` and ``warm``, each what ``worker`` prints."""


def measure(device: str) -> Alone:
    """Every way, cold and warm, for :data:`CASES`."""
    return {case: {name: found for name in _exact() if (found := _twice(case, name, device))} for case in CASES}


def _exact() -> list[str]:
    return [name for name in WAYS if "medium" not in name]


def _twice(case: str, name: str, device: str) -> dict[str, Any] | None:
    print(f"starting {name}, {case} ...", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        cold = _run(case, name, device, folder)
        return cold and {"cold": cold, "warm": _run(case, name, device, folder)}


def _run(case: str, name: str, device: str, folder: str) -> Any:
    command = [sys.executable, "-m", "benchmarks.worker", case, name, device]
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": folder}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])
