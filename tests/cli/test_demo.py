"""The demo, on a tiny folder: three equal runs, one table, and files that say the same."""

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
import torch

from lightning_fastdata.cli import main
from lightning_fastdata.cli.choice import MAX_VAL_SAMPLES, choose_pictures, read_ahead
from lightning_fastdata.cli.feeds import StockData, three_feeds
from lightning_fastdata.cli.network import SmallResNet
from lightning_fastdata.cli.outcome import found_lines
from lightning_fastdata.errors import DatasetError
from lightning_fastdata.stalls import Finding, SettingChange

KEYS = ["usual", "advice", "auto"]
TINY = ["--accelerator", "cpu", "--batch-size", "4", "--size", "16"]


@pytest.fixture
def demo(folder_of_pictures: Path, tmp_path: Path) -> list[str]:
    """The arguments of a demo on twenty pictures."""
    folders = ["--cache-dir", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    return ["demo", "--data", str(folder_of_pictures), *TINY, *folders]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def test_three_runs_stand_side_by_side(
    demo: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main([*demo, "--max-steps", "3"])

    printed = capsys.readouterr().out
    workers = read_json(tmp_path / "out" / "demo.json")["runs"]["advice"]["num_workers"]
    headers = [line.split() for line in printed.splitlines() if line[:20].isspace()]
    rows = {line[:20].strip(): line[20:].split() for line in printed.splitlines()}
    assert status == 0
    assert headers == [["DataLoader()", f"num_workers={workers}", "FastDataModule"]]
    assert len(rows["samples/s"]) == len(rows["ms/step"]) == len(rows["workers"]) == 3
    assert rows["validation accuracy"[:20]].count("%") == 3
    assert "chance is 50.0 %" in printed
    assert "Samples a second with FastDataModule: " in printed
    assert "How the data is loaded" in printed
    assert f"JSON: {tmp_path / 'out' / 'demo.json'}" in printed


def test_the_files_are_whole_and_agree(demo: list[str], tmp_path: Path) -> None:
    main([*demo, "--max-steps", "3", "--seed", "5"])

    common = read_json(tmp_path / "out" / "demo.json")
    reports = {key: read_json(tmp_path / "out" / f"{key}.json") for key in KEYS}
    assert list(common["runs"]) == KEYS
    for key in KEYS:
        run, report = common["runs"][key], reports[key]
        assert report["steps"] + report["steps_left_out"] == 3
        assert run["report"] == f"{key}.json"
        assert run["samples_per_s"] == report["samples_per_s"] > 0
        assert 0 <= run["val_accuracy"] <= 1
    assert common["training"]["seed"] == 5
    assert common["pictures"]["train_count"] == 18
    assert common["pictures"]["val_count"] == 2
    assert set(common["speed_up_of_auto"]) == {"usual", "advice"}
    assert set(common["plans_of_auto"]) == {"train", "val"}
    assert common["machine"]["torch_version"] == metadata.version("torch")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [*(f"{key}.json" for key in KEYS), "demo.json"]
    )


def test_too_few_steps_to_compare_are_said_and_no_failure(
    demo: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*demo, "--max-steps", "1"]) == 0

    assert "Too few steps to compare the runs" in capsys.readouterr().out


@pytest.mark.slow
def test_it_says_nothing_that_nobody_can_act_on(demo: list[str]) -> None:
    """Outside pytest, which has filters of its own."""
    process = subprocess.run(
        [sys.executable, "-m", "lightning_fastdata.cli", *demo, "--max-steps", "2"],
        capture_output=True,
        text=True,
    )

    assert process.returncode == 0
    assert [line[:3] for line in process.stderr.split("\n") if line] == ["1/3", "2/3", "3/3"]


def run_of(title: str, num_workers: int, stall_fraction: float, **summary: Any) -> Any:
    """What a run came to, with no more than what is said of findings."""
    setup = SimpleNamespace(name="", num_workers=num_workers)
    return SimpleNamespace(
        feed=SimpleNamespace(title=title),
        summary=SimpleNamespace(
            stall_fraction=stall_fraction,
            run=SimpleNamespace(loaders=(setup,), settings=()),
            **{"findings": (), **summary},
        ),
    )


TOO_FEW = Finding(
    cause="too_few_workers",
    stall_fraction=0.6,
    evidence=(),
    advice="num_workers 0 -> 2.",
    changes=(SettingChange(name="num_workers", now=0, then=2),),
    predicted_stall_fraction=0.01,
)


def test_what_was_found_stands_beside_the_run_that_did_it() -> None:
    usual = run_of("DataLoader()", 0, 0.6, findings=(TOO_FEW,))

    said = found_lines([usual, run_of("num_workers=2", 2, 0.0234)])

    assert said == [
        "Found in DataLoader(): Too few workers, costs 60.0 % of the time",
        "   do: num_workers 0 -> 2 (predicted stall 1.0 %); measured with num_workers=2: 2.3 %",
    ]


def test_a_run_that_did_something_else_is_no_proof() -> None:
    usual = run_of("DataLoader()", 0, 0.6, findings=(TOO_FEW,))

    said = found_lines([usual, run_of("num_workers=1", 1, 0.0234)])

    assert said[1:] == ["   do: num_workers 0 -> 2 (predicted stall 1.0 %)"]


def test_nothing_found_is_nothing_said() -> None:
    assert found_lines([run_of("DataLoader()", 0, 0.0), run_of("num_workers=1", 1, 0.0)]) == []


def test_a_broken_picture_is_one_sentence(
    demo: list[str], folder_of_pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in folder_of_pictures.glob("red/*.jpg"):
        path.write_bytes(b"no picture")

    status = main([*demo, "--max-steps", "3"])

    assert status == 2
    assert "DataLoader() met a file that it cannot read (" in capsys.readouterr().err


def start_demo(demo: list[str], steps: int) -> tuple["subprocess.Popen[str]", IO[str]]:
    # Where the tests run in the background SIGINT is ignored, which a program would inherit.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "lightning_fastdata.cli", *demo, "--max-steps", str(steps)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # the signal goes to its workers as well, as from a terminal
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stderr is not None
    return process, process.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT as a terminal does")
def test_ctrl_c_is_one_word_and_status_130(demo: list[str]) -> None:
    process, said = start_demo(demo, steps=1_000_000)
    assert said.readline().startswith("1/3")

    os.killpg(process.pid, signal.SIGINT)
    _, rest = process.communicate(timeout=60)

    assert process.returncode == 130
    assert rest == "\nlightning-fastdata: interrupted.\n"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT as a terminal does")
def test_ctrl_c_while_workers_start_leaves_none_of_them(demo: list[str]) -> None:
    """What Python's own workers print when they are hit half-started is not ours to say."""
    process, said = start_demo(demo, steps=50)
    while not said.readline().startswith("2/3"):
        assert process.poll() is None
    children: list[psutil.Process] = []
    while not children and process.poll() is None:
        children = psutil.Process(process.pid).children(recursive=True)

    os.killpg(process.pid, signal.SIGINT)
    _, rest = process.communicate(timeout=60)

    _, alive = psutil.wait_procs(children, timeout=5)
    assert process.returncode == 130, rest
    assert "lightning-fastdata: interrupted.\n" in rest
    assert children
    assert not alive


def test_every_run_reads_the_same_pictures(folder_of_pictures: Path, tmp_path: Path) -> None:
    pictures = choose_pictures(folder_of_pictures, size=16, seed=3, cache_dir=tmp_path / "cache")
    usual, _, auto = three_feeds(pictures, batch_size=4, size=16, seed=3)
    stock, fast = usual.build(), auto.build()
    assert isinstance(stock, StockData)

    for side in ("train", "val"):
        theirs: Any = getattr(stock, f"{side}_dataloader")().dataset
        ours: Any = getattr(fast, f"{side}_dataset")
        assert theirs.indices == ours.indices
        assert [path for path, _ in theirs.dataset.samples] == [
            ours.dataset.sample_path(index) for index in range(20)
        ]


def test_train_and_val_folders_are_taken_as_they_are(
    folder_of_pictures: Path, tmp_path: Path
) -> None:
    root = tmp_path / "split"
    for side in ("train", "val"):
        shutil.copytree(folder_of_pictures, root / side)

    pictures = choose_pictures(root, size=16, seed=0, cache_dir=tmp_path / "cache")

    assert (pictures.train_root, pictures.val_root) == (str(root / "train"), str(root / "val"))
    assert (pictures.train_indices, pictures.val_indices) == (None, None)
    assert (pictures.train_count, pictures.val_count) == (20, 20)


def test_folders_with_different_classes_are_refused(
    folder_of_pictures: Path, tmp_path: Path
) -> None:
    root = tmp_path / "split"
    for side in ("train", "val"):
        shutil.copytree(folder_of_pictures, root / side)
    (root / "val" / "red").rename(root / "val" / "green")

    with pytest.raises(DatasetError, match=r"split has the class 'green' on one side of train and"):
        choose_pictures(root, size=16, seed=0, cache_dir=tmp_path / "cache")


def test_validation_takes_a_bounded_number_of_pictures_of_all_classes(
    folder_of_pictures: Path, tmp_path: Path
) -> None:
    root = tmp_path / "split"
    shutil.copytree(folder_of_pictures, root / "train")
    for colour in ("blue", "red"):
        (root / "val" / colour).mkdir(parents=True)
        for number in range(MAX_VAL_SAMPLES):
            (root / "val" / colour / f"{number}.jpg").touch()

    pictures = choose_pictures(root, size=16, seed=0, cache_dir=tmp_path / "cache")

    assert pictures.val_indices is not None
    labels = {pictures.val.targets[index] for index in pictures.val_indices}
    assert len(set(pictures.val_indices)) == pictures.val_count == MAX_VAL_SAMPLES
    assert labels == {0, 1}


def test_reading_ahead_leaves_a_missing_file_to_the_run(
    folder_of_pictures: Path, tmp_path: Path
) -> None:
    pictures = choose_pictures(folder_of_pictures, size=16, seed=0, cache_dir=tmp_path / "cache")
    (folder_of_pictures / "red" / "3.jpg").unlink()

    assert read_ahead(pictures)


def test_the_same_seed_gives_the_same_first_weights() -> None:
    weights = []
    for _ in range(2):
        torch.manual_seed(4)
        weights.append(
            torch.cat([each.flatten() for each in SmallResNet(3, 4, steps=1).parameters()])
        )

    assert torch.equal(*weights)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_whole_demo_learns_in_every_run(tmp_path: Path) -> None:
    arguments = ["demo", "--accelerator", "cpu", "--cache-dir", str(tmp_path / "cache")]
    process = subprocess.run([sys.executable, "-m", "lightning_fastdata.cli", *arguments])

    runs = read_json(tmp_path / "cache" / "demo-results" / "demo.json")["runs"]
    assert process.returncode == 0
    assert min(run["val_accuracy"] for run in runs.values()) > 0.5  # chance is 0.125
