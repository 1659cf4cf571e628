"""How long a loader took to open, told from the names of profiler actions alone."""

from trace_loop import FakeClock

from lightning_fastdata.trace import LoaderOpening


def actions(opening: LoaderOpening, clock: FakeClock, *named: tuple[str, int]) -> bool:
    ended = [_action(opening, clock, name, lasts_ns) for name, lasts_ns in named]
    return any(ended)


def _action(opening: LoaderOpening, clock: FakeClock, name: str, lasts_ns: int) -> bool:
    if opening.started(name):
        return True
    clock.now_ns += lasts_ns
    opening.stopped(name)
    return False


def test_opening_lasts_from_the_loader_hook_to_the_begin_of_training() -> None:
    clock = FakeClock()
    opening = LoaderOpening(clock, loader_is_new=True)

    actions(opening, clock, ("[Callback]C.on_fit_start", 1000))
    clock.now_ns += 500
    actions(opening, clock, ("[LightningModule]M.train_dataloader", 7))
    clock.now_ns += 20
    actions(opening, clock, ("[LightningModule]M.val_dataloader", 3))
    assert opening.started("[Callback]C.on_train_start")

    assert opening.elapsed_ns() == 30


def test_opening_of_a_loader_without_a_hook_follows_the_last_action() -> None:
    clock = FakeClock()
    opening = LoaderOpening(clock, loader_is_new=True)

    actions(opening, clock, ("[Callback]C.on_fit_start", 1000))
    clock.now_ns += 20
    actions(opening, clock, ("[LightningModule]M.val_dataloader", 3))

    assert opening.elapsed_ns() == 23


def test_opening_inside_configure_optimizers_is_found() -> None:
    clock = FakeClock()
    opening = LoaderOpening(clock, loader_is_new=True)

    opening.started("[LightningModule]M.configure_optimizers")
    clock.now_ns += 100
    actions(opening, clock, ("[LightningModule]M.train_dataloader", 7))
    clock.now_ns += 20
    opening.stopped("[LightningModule]M.configure_optimizers")
    clock.now_ns += 1000
    actions(opening, clock, ("[Callback]C.on_fit_start", 1000))

    assert opening.elapsed_ns() == 27


def test_opening_by_a_trial_run_is_not_measured() -> None:
    clock = FakeClock()
    opening = LoaderOpening(clock, loader_is_new=True)

    opening.started("[Callback]BatchSizeFinder.on_fit_start")
    nested = actions(
        opening,
        clock,
        ("[LightningModule]M.train_dataloader", 7),
        ("[LightningModule]M.on_train_start", 1),
        ("run_training_epoch", 50),
    )
    opening.stopped("[Callback]BatchSizeFinder.on_fit_start")

    assert not nested, "a trial's on_train_start is not ours"
    assert opening.elapsed_ns() is None


def test_between_epochs_only_a_loader_made_anew_takes_time() -> None:
    clock = FakeClock()
    opening = LoaderOpening(clock, loader_is_new=False)

    actions(opening, clock, ("[Callback]C.on_train_epoch_end", 1000))
    clock.now_ns += 50
    assert opening.elapsed_ns() == 0
    actions(opening, clock, ("[LightningModule]M.train_dataloader", 7))

    assert opening.elapsed_ns() == 7


def test_an_action_that_began_before_anybody_listened_does_not_count() -> None:
    """An epoch of a search ends inside the hook that ran it."""
    clock = FakeClock()
    opening = LoaderOpening(clock, loader_is_new=False)

    opening.stopped("[Callback]LearningRateFinder.on_train_epoch_start")

    assert opening.started("[LightningModule]M.on_train_epoch_start")
