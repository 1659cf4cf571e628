"""``lightning-fastdata demo``: a training run that waits for its data, and the same run fed."""

import os
from pathlib import Path

import torch

from lightning_fastdata.cli.arguments import DemoOptions
from lightning_fastdata.cli.choice import PictureSets, choose_pictures, read_ahead
from lightning_fastdata.cli.feeds import Feed, three_feeds
from lightning_fastdata.cli.outcome import check_writable, outcome_table, write_results
from lightning_fastdata.cli.photographs import PictureRecipe, ensure_pictures
from lightning_fastdata.cli.quiet import quiet
from lightning_fastdata.cli.runs import Training, train_and_validate, warm_up
from lightning_fastdata.datamodule import FastDataModule
from lightning_fastdata.dataset.index_cache import default_cache_dir
from lightning_fastdata.errors import SettingsError
from lightning_fastdata.machine import Machine, read_machine, whole_cores
from lightning_fastdata.report.table import show


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
    machine = read_machine(os.environ)
    root = options.data
    if root is None:
        threads = whole_cores(machine.cores)
        root = ensure_pictures(cache_dir, recipe or PictureRecipe(), threads=threads)
    size = options.size or (224 if accelerator == "gpu" else 128)
    pictures = choose_pictures(root, size=size, seed=options.seed, cache_dir=cache_dir)
    training = _choose_training(options, accelerator, size, classes=len(pictures.train.classes))
    feeds = three_feeds(pictures, batch_size=training.batch_size, size=size, seed=options.seed)
    check_writable(out)
    _introduce(pictures, training, feeds)
    _run(feeds, pictures, training, machine, out)


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


def _choose_training(
    options: DemoOptions, accelerator: str, size: int, *, classes: int
) -> Training:
    # On two Xeon cores the defaults take 40 s for all three runs; those for a GPU are a guess.
    on_gpu = accelerator == "gpu"
    return Training(
        accelerator=accelerator,
        max_steps=options.max_steps or (60 if on_gpu else 120),
        batch_size=options.batch_size or (128 if on_gpu else 32),
        size=size,
        width=64 if on_gpu else 16,
        classes=classes,
        seed=options.seed,
    )


def _introduce(pictures: PictureSets, training: Training, feeds: list[Feed]) -> None:
    print(
        f"Three runs of a small ResNet, alike but for the loading: {training.max_steps} steps of "
        f"{training.batch_size}\nout of {pictures.train_count:,} JPEG files, {training.size} "
        f"pixels, on the {training.accelerator.upper()}.\n"
    )
    explanations = (
        "torchvision's ImageFolder, DataLoader with its default arguments",
        "the same, with the number of workers that Lightning advises",
        'FastDataModule and ImageFolder of this package, all "auto"',
    )
    width = max(len(feed.title) for feed in feeds)
    for feed, explanation in zip(feeds, explanations, strict=True):
        print(f"  {feed.title:{width}}  {explanation}")
    print(flush=True)


def _run(
    feeds: list[Feed], pictures: PictureSets, training: Training, machine: Machine, out: Path
) -> None:
    with quiet():
        files_were_read = read_ahead(pictures)
        warm_up(feeds[0], training)
        width = max(len(feed.title) for feed in feeds)
        results = [
            train_and_validate(feed, training, f"{number}/{len(feeds)} {feed.title:{width}}")
            for number, feed in enumerate(feeds, start=1)
        ]
    automatic = results[-1].data
    assert isinstance(automatic, FastDataModule)
    plans = automatic.resolved_settings()
    written = write_results(
        out, results, pictures=pictures, training=training, machine=machine, plans=plans
    )
    print()
    show(outcome_table(results, pictures, files_were_read=files_were_read))
    print()
    automatic.explain()
    print(f"\nJSON: {written}, and beside it one file a run")
