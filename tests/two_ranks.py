"""Runs a program as Lightning does on two ranks: it starts the second one itself."""

import os
import socket
import subprocess
import sys
from pathlib import Path

HANGS_AFTER_S = 100


def run_two_ranks(program: str, folder: Path, *arguments: str, beside: Path) -> None:
    """Run a program that trains with two devices, to its end.

    Args:
        program: Its text; it is told ``folder`` and ``arguments``.
        folder: Where it and what it writes go.
        arguments: Further ones.
        beside: A test module whose neighbours it may import.
    """
    script = folder / "two_ranks.py"
    script.write_text(program)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    paths = [str(beside.parents[2]), str(beside.parent), os.environ.get("PYTHONPATH", "")]
    environment = {
        "PYTHONPATH": os.pathsep.join(paths),
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    result = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(folder), *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER_S,
    )
    assert result.returncode == 0, result.stderr[-3000:]
