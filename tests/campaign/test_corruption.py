"""300 corrupt picture files of all kinds among good ones, through the loader: named or skipped."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))

import load_corrupt
import read_corrupt
from corrupt_files import GOOD, KINDS, Written, write_tree

SEED, CORRUPT, GOOD_ONES = 20_261_123, 300, 100
BOUND_MIB = 150  # above a process that has imported torch; see BOUND_MIB of tests/dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def files(imagenet_sample: Path, tmp_path: Path) -> list[Written]:
    print(f"seed {SEED}: {CORRUPT} corrupt files of {len(KINDS)} kinds, {GOOD_ONES} good")
    sources = sorted(imagenet_sample.glob("*/*"))
    return write_tree(tmp_path / "root", sources, corrupt=CORRUPT, good=GOOD_ONES, seed=SEED)


def run(script: Any, files: list[Written], tmp_path: Path, *arguments: str) -> Any:
    """Run a script in a process of its own; what it prints is JSON."""
    fields = tmp_path / "files.json"
    fields.write_text(json.dumps([asdict(file) for file in files]))
    command = [sys.executable, "-W", "error", script.__file__, str(fields), str(tmp_path / "cache")]
    ended = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=500)
    assert (ended.returncode, ended.stderr) == (0, "")
    return json.loads(ended.stdout)


def records_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def places(files: list[Written], *expected: str) -> set[int]:
    return {at for at, file in enumerate(files) if file.expected in expected}


def test_each_of_300_files_is_made_or_refused_by_name(files, tmp_path):
    results = run(read_corrupt, files, tmp_path)

    for told in (one for way in results.values() for one in way):
        file = files[told["index"]]
        if told["error"] is None:
            assert file.expected != "refused", file
        else:
            assert file.expected != "made", (file, told)
            assert told["error"] == "SampleError", told
            assert told["message"].startswith(f"sample {told['index']} ({file.path}"), told
        assert told["peak_mib"] < BOUND_MIB, (file, told)


def test_bad_files_are_skipped_and_everything_else_is_delivered_exactly_once(files, tmp_path):
    quarantine = tmp_path / "bad.jsonl"

    told = run(load_corrupt, files, tmp_path, str(quarantine))

    bad = {record["index"]: record for record in records_of(quarantine)}
    pairs = records_of(quarantine.with_name("bad.repeats.jsonl"))
    assert places(files, "refused") <= set(bad) <= places(files, "refused", "either")
    assert all(record["path"] == files[at].path for at, record in bad.items())
    assert all(f"({files[at].path}" in record["error"] for at, record in bad.items())
    assert {pair["skipped"] for pair in pairs} == set(bad)
    repeated = Counter(pair["repeated"] for pair in pairs)
    assert Counter(told["delivered"]) == repeated + Counter(set(range(len(files))) - set(bad))
    assert told["error"] is None
    assert max(told["peaks_mib"]) < told["imported_mib"] + BOUND_MIB


def test_the_first_bad_file_of_the_order_is_named(files, tmp_path):
    first = min(places(files, "refused"))
    head = files[: first + 1]
    assert places(head, "either") == set(), "choose a seed whose first bad file is bad in any case"

    told = run(load_corrupt, files, tmp_path)

    assert told["error"] == "SampleError"
    assert f"sample {first} ({files[first].path}" in told["message"]
    assert told["delivered"] == list(range(first - first % load_corrupt.BATCH))
    assert files[first].kind != GOOD
    assert os.path.basename(files[first].path) in told["message"]
