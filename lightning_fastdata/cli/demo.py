"""``lightning-fastdata demo``: a training run that waits for its data, and the same run fed."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from lightning_fastdata.cli.arguments import DemoOptions
from lightning_fastdata.cli.choice import PictureSets, choose_pictures, read_ahead
from lightning_fastdata.cli.feeds import Feed, three_feeds
from lightning_fastdata.cli.outcome import (
    check_writable,
    found_lines,
    outcome_table,
    write_results,
)
from lightning_fastdata.cli.photographs import PictureRecipe, ensure_pictures
from lightning_fastdata.cli.quiet import quiet
from lightning_fastdata.cli.runs import (
    RunResult,
    Training,
    compute_threads,
    train_and_validate,
    warm_up,
)
from lightning_fastdata.datamodule import FastDataModule
from lightning_fastdata.dataset.index_cache import default_cache_dir
from lightning_fastdata.errors import SettingsError
from lightning_fastdata.machine import read_machine, whole_cores
from lightning_fastdata.report.table import show

WARM_UP_STEPS = 6
MOST_STEPS = 100  # on two idle EPYC cores: 45 s for everything, over 90 % right
FEWEST_STEPS = 30  # guess: below it, what is learnt and what is measured is luck
LONGEST_RUN_NS = 30 * 10**9  # guess: of three runs the first is the slowest; two minutes for all


def run_demo(options: DemoOptions, recipe: PictureRecipe | None = None) -> None:
    """Train three times, print the runs side by side, and write the JSON files.

    Args:
        options: What was asked for.
        recipe: How pictures are cut where the user has none; ``None`` is the usual one.

    Raises:
        FastDataError: Something was asked for that cannot be.
        KeyboardInterrupt: Ctrl-C.
    """
    cache_dir = options.cache_dir or default_cache_dir()
    out = options.out or cache_dir / "demo-results"
    accelerator = choose_accelerator(options.accelerator, has_gpu=has_gpu())
    size = options.size or (224 if accelerator == "gpu" else 128)
    pictures = _find_pictures(options, recipe or PictureRecipe(), size, cache_dir)
    check_writable(out)
    training = _choose_training(options, accelerator, size, classes=len(pictures.train.classes))
    feeds = three_feeds(pictures, batch_size=training.batch_size, size=size, seed=options.seed)
    with quiet(), compute_threads(training.compute_threads):
        files_were_read = read_ahead(pictures)
        step_ns = warm_up(feeds[0], training, steps=min(WARM_UP_STEPS, training.max_steps))
        if options.max_steps is None:
            steps = steps_in_time(step_ns, most=training.max_steps)
            training = replace(training, max_steps=steps)
        _introduce(pictures, training, feeds)
        results = _train_all(feeds, training)
    _report(results, pictures, training, out, files_were_read=files_were_read)


def choose_accelerator(wanted: str, *, has_gpu: bool) -> str:
    """Name Lightning's accelerator: ``cpu`` or ``gpu``.

    Raises:
        SettingsError: A GPU was asked for and there is none.
    """
    if wanted == "gpu" and not has_gpu:
        raise SettingsError(
            "--accelerator gpu was asked for, but torch sees no GPU here. Pass --accelerator cpu, "
            "or check the driver and that this torch was built for it."
        )
    return "gpu" if has_gpu and wanted != "cpu" else "cpu"


def has_gpu() -> bool:
    """Whether torch can train on a GPU of this machine."""
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def steps_in_time(step_ns: int | None, *, most: int) -> int:
    """Choose how many steps each run gets, so that the demo ends in time on a slow machine too.

    Args:
        step_ns: Time of a step of the first run; ``None`` where it is not known.
        most: Steps on a fast machine.

    Returns:
        30 or more (but not more than ``most``): fewer would show nothing.
    """
    fitting = most if not step_ns else LONGEST_RUN_NS // step_ns
    return min(most, max(FEWEST_STEPS, fitting))


def _find_pictures(
    options: DemoOptions, recipe: PictureRecipe, size: int, cache_dir: Path
) -> PictureSets:
    root = options.data
    if root is None:
        threads = whole_cores(read_machine(os.environ).cores)
        root = ensure_pictures(cache_dir, recipe, threads=threads)
    return choose_pictures(root, size=size, seed=options.seed, cache_dir=cache_dir)


def _choose_training(
    options: DemoOptions, accelerator: str, size: int, *, classes: int
) -> Training:
    on_gpu = accelerator == "gpu"
    # Half of the cores play the device and the others load. Where both wanted all of them, torch's
    # threads would spin while they wait for each other: a step of 40 ms became one of 1,100 ms
    # beside one busy process on two EPYC cores, and the table would show that instead of loading.
    halved = max(1, whole_cores(read_machine(os.environ).cores) // 2)
    return Training(
        accelerator=accelerator,
        max_steps=options.max_steps or MOST_STEPS,
        batch_size=options.batch_size or (128 if on_gpu else 32),
        size=size,
        width=64 if on_gpu else 8,
        classes=classes,
        seed=options.seed,
        compute_threads=None if on_gpu else halved,
    )


def _introduce(pictures: PictureSets, training: Training, feeds: list[Feed]) -> None:
    print(
        f"Three runs of a small ResNet, alike but for the loading: {training.max_steps} steps of "
        f"{training.batch_size}\nout of {pictures.train_count:,} pictures, at {training.size} "
        f"pixels, on {_device(training)}.\n"
    )
    explanations = (
        "torchvision's ImageFolder, DataLoader with default arguments",
        "the same, with as many workers as Lightning advises",
        'FastDataModule and ImageFolder of this package, all "auto"',
    )
    width = max(len(feed.title) for feed in feeds)
    for feed, explanation in zip(feeds, explanations, strict=True):
        print(f"  {feed.title:{width}}  {explanation}")
    print(flush=True)


def _device(training: Training) -> str:
    if training.compute_threads is None:
        return "the GPU"
    cores = "1 core" if training.compute_threads == 1 else f"{training.compute_threads} cores"
    return f"{cores} of the CPU (half of them)"


def _train_all(feeds: list[Feed], training: Training) -> list[RunResult]:
    width = max(len(feed.title) for feed in feeds)
    return [
        train_and_validate(feed, training, f"{number}/{len(feeds)} {feed.title:{width}}")
        for number, feed in enumerate(feeds, start=1)
    ]


def _report(
    results: list[RunResult],
    pictures: PictureSets,
    training: Training,
    out: Path,
    *,
    files_were_read: bool,
) -> None:
    automatic = results[-1].data
    assert isinstance(automatic, FastDataModule), "the last feed is ours"
    written = write_results(
        out,
        results,
        pictures=pictures,
        training=training,
        machine=read_machine(os.environ),
        plans=automatic.resolved_settings(),
    )
    print(file=sys.stderr)  # below the bars
    show(outcome_table(results, pictures, files_were_read=files_were_read))
    found = found_lines(results[:-1])  # the last run differs in more than what was advised
    print(*found, sep="\n", end="\n\n" if found else "\n")
    automatic.explain()
    print(f"\nJSON: {written}, and beside it one file a run")
