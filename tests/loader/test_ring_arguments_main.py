"""Classes that only the training script's own main module has pass through a ring."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow  # two programs, which import all anew

MAIN = """
import sys
from typing import NamedTuple
from torch.utils.data import Dataset
from lightning_fastdata import FastDataLoader

class Pair(NamedTuple):
    left: int
    right: str

class Key(NamedTuple):
    number: int
    kind: str

class Refused(Exception):
    pass

class WithOtherArguments(Exception):
    def __init__(self, code, reason):
        super().__init__(f"code {code}: {reason}")

class Pairs(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 6:
            raise Refused("six")
        if index == 7:
            raise WithOtherArguments(7, "seven")
        if isinstance(index, Key):
            assert type(index) is Key
            index = index.number
        return Pair(index, str(index))

def collate(samples):
    return samples

def batches(**how):
    return list(FastDataLoader(
        Pairs(), engine="ring", num_workers=2, multiprocessing_context=sys.argv[1], **how))

def rows():
    (batch,) = batches(batch_sampler=[[1, 2]])
    assert type(batch) is Pair and batch.left.tolist() == [1, 2], batch

def collated():
    (batch,) = batches(batch_sampler=[[1, 2]], collate_fn=collate)
    assert batch == [Pair(1, "1"), Pair(2, "2")] and type(batch[0]) is Pair, batch

def keys():
    (batch,) = batches(batch_sampler=[[Key(1, "a"), Key(2, "b")]])
    assert batch.left.tolist() == [1, 2], batch

def error():
    try:
        batches(batch_sampler=[[6]])
    except Refused as refused:
        assert str(refused) == "six"
        return
    raise AssertionError("there was no error")

def error_with_other_arguments():
    try:
        batches(batch_sampler=[[7]])
    except RuntimeError as error:
        assert "WithOtherArguments" in str(error) and "seven" in str(error), error
        return
    raise AssertionError("there was no error")

if __name__ == "__main__":
    for case in (rows, collated, keys, error, error_with_other_arguments):
        try:
            case()
        except Exception as failed:
            print(case.__name__, "failed:", type(failed).__name__, str(failed).splitlines()[:1])
        else:
            print(case.__name__, "works")
"""
CASES = ["rows", "collated", "keys", "error", "error_with_other_arguments"]


@pytest.fixture(scope="module")
def told_by(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What the script printed, by the start method of its workers."""
    script = tmp_path_factory.mktemp("main") / "script.py"
    script.write_text(MAIN)
    return {
        method: subprocess.run(
            [sys.executable, str(script), method], stdout=subprocess.PIPE, text=True, check=True
        ).stdout.splitlines()
        for method in ("fork", "spawn")
    }


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("case", CASES)
def test_classes_of_the_main_module_come_and_go(
    method: str, case: str, told_by: dict[str, list[str]]
) -> None:
    (told,) = [line for line in told_by[method] if line.split()[0] == case]

    assert told == f"{case} works"
