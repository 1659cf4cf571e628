from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def captured() -> Callable[[str], dict[str, str]]:
    """Read one captured system: every file of it stands below a line ``=== PATH``."""

    def read(name: str) -> dict[str, str]:
        whole = (Path(__file__).parent / "captured" / f"{name}.txt").read_text(encoding="utf-8")
        sections = whole.split("=== ")[1:]
        return {path: text for path, _, text in (part.partition("\n") for part in sections)}

    return read
