"""Every kind of bad picture file, each read by itself in a process that is watched from outside."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "campaign"))

import read_corrupt
from corrupt_files import GOOD, KINDS, Written, write_tree

WAYS = list(read_corrupt.WAYS)
BOUND_MIB = 64  # 12 measured, of 39 for the pixels of the largest picture in RGB


@pytest.fixture(scope="module")
def read(
    imagenet_sample: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Written], dict[str, list[dict[str, Any]]]]:
    """One file of each kind and some good ones, and what each became, warnings being errors."""
    folder = tmp_path_factory.mktemp("corrupt")
    sources = sorted(imagenet_sample.glob("*/*"))
    files = write_tree(folder / "root", sources, corrupt=len(KINDS), good=4, seed=11)
    fields = folder / "files.json"
    fields.write_text(json.dumps([dataclasses.asdict(file) for file in files]))
    command = [sys.executable, "-W", "error", read_corrupt.__file__, str(fields)]
    ended = subprocess.run(
        [*command, str(folder / "cache")], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return files, json.loads(ended.stdout)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [GOOD, *KINDS])
def test_each_kind_is_made_or_refused_with_the_file_and_what_is_wrong(read, kind, way):
    files, results = read
    place = next(at for at, file in enumerate(files) if file.kind == kind)
    file, told = files[place], results[way][place]

    if told["error"] is None:
        assert file.expected in ("made", "either")
        assert sorted(told["shape"]) == [3, 224, 224]
        return

    assert file.expected in ("refused", "either")
    assert told["error"] == "SampleError"
    assert told["message"].startswith(f"sample {place} ({file.path}")
    assert "0x7f" not in told["message"], "an address says nothing"
    assert told["cause"] is not None


@pytest.mark.parametrize("way", WAYS)
def test_no_kind_takes_much_memory(read, way):
    files, results = read

    peaks = {file.kind: told["peak_mib"] for file, told in zip(files, results[way], strict=True)}

    assert {kind: peak for kind, peak in peaks.items() if peak > BOUND_MIB} == {}


def test_the_same_seed_writes_the_same_files(imagenet_sample, tmp_path):
    sources = sorted(imagenet_sample.glob("*/*"))[:3]

    trees = [
        write_tree(tmp_path / name, sources, corrupt=12, good=2, seed=3) for name in ("one", "two")
    ]

    contents = [[Path(file.path).read_bytes() for file in tree] for tree in trees]
    assert contents[0] == contents[1]
    assert [file.kind for file in trees[0]] == [file.kind for file in trees[1]]


@pytest.mark.parametrize("kind", ["fifo", "device", "became a folder"])
def test_what_is_no_file_is_said_to_be_none(read, kind):
    files, results = read
    place = next(at for at, file in enumerate(files) if file.kind == kind)

    for way in WAYS:
        assert "cannot be read: Not a regular file. Wanted" in results[way][place]["message"]
