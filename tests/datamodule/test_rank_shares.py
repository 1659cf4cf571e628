"""Two processes share the data: each sample once, equal lengths, one plan, exact resume."""

import json
from pathlib import Path
from typing import Any

import pytest
from two_ranks import run_two_ranks

pytestmark = pytest.mark.slow  # two programs, which import all anew

PROGRAM = """
import json, sys
from pathlib import Path
from toy_runs import At, Noisy, Numbers, a_model, a_trainer
from lightning_fastdata import FastDataModule

folder, steps = Path(sys.argv[1]), 6


def some_data(**settings):
    return FastDataModule(Noisy(21), Numbers(9), Numbers(9), Numbers(9), batch_size=4, **settings)


def trainer_of(*callbacks, **options):
    quiet = {"devices": 2, "strategy": "ddp", "max_epochs": 2}
    return a_trainer(folder, *callbacks, **quiet | options)


def save(trainer):
    trainer.save_checkpoint(folder / f"step{trainer.global_step}.ckpt")


data, model = some_data(), a_model()
trainer = trainer_of(At(save))
trainer.fit(model, datamodule=data)
seen = {"train": model.seen["train"], "val[0] while training": model.seen.pop("val[0]")}
trainer.validate(model, datamodule=data, verbose=False)
trainer.test(model, datamodule=data, verbose=False)
trainer.predict(model, datamodule=data)

resumed = {}
for step in range(1, steps + 1):
    again = a_model()
    trainer_of().fit(again, datamodule=some_data(), ckpt_path=folder / f"step{step}.ckpt")
    resumed[step] = again.seen.get("train", [])

alone, uneven = a_model(), some_data(num_workers=trainer.global_rank)
trainer_of(use_distributed_sampler=False).fit(alone, datamodule=uneven)
notes = {
    "seen": model.seen | seen,
    "plans": data.resolved_settings(),
    "uneven plans": uneven.resolved_settings(),
    "resumed": resumed,
    "alone": alone.seen,
}
(folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(notes))
"""


def trained_in(folder: Path) -> list[dict[str, Any]]:
    """Train with two processes; give what each of them wrote."""
    run_two_ranks(PROGRAM, folder, beside=Path(__file__))
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


def numbers(notes: list[Any], epoch: int) -> list[float]:
    flat = [n for at, batch in notes if at == epoch for n in batch]
    return [n[0] if isinstance(n, list) else n for n in flat]


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return trained_in(tmp_path_factory.mktemp("ranks"))


def test_the_ranks_share_each_epoch_with_equal_lengths(two_ranks: Any) -> None:
    for epoch in (0, 1):
        first, second = (numbers(rank["seen"]["train"], epoch) for rank in two_ranks)
        assert len(first) == len(second) == 11
        assert set(first + second) == set(range(21)), "so that one of 22 is a repeat"


def test_each_epoch_has_its_own_order(two_ranks: Any) -> None:
    orders = [numbers(two_ranks[0]["seen"]["train"], epoch) for epoch in (0, 1)]

    assert orders[0] != orders[1]


@pytest.mark.parametrize(
    ("kind", "epochs"),
    [("val[0] while training", [0, 1]), ("val[0]", [2]), ("test[0]", [2]), ("predict[0]", [2])],
)
def test_evaluation_sees_each_sample_exactly_once(
    kind: str, epochs: list[int], two_ranks: Any
) -> None:
    for epoch in epochs:
        shares = [numbers(rank["seen"][kind], epoch) for rank in two_ranks]
        assert sorted(shares[0] + shares[1]) == list(range(9))


def test_both_ranks_load_by_the_same_plan(two_ranks: Any) -> None:
    assert two_ranks[0]["plans"] == two_ranks[1]["plans"]
    assert set(two_ranks[0]["plans"]) == {"train", "val", "test", "predict"}


def test_ranks_that_would_decide_otherwise_load_by_the_firsts_plan(two_ranks: Any) -> None:
    for rank in two_ranks:
        assert rank["uneven plans"]["train"]["num_workers"] == 0


def test_two_ranks_resume_exactly_after_every_step(two_ranks: Any) -> None:
    for rank in two_ranks:
        assert len(rank["seen"]["train"]) == len(rank["resumed"]) == 6
        for step, resumed in rank["resumed"].items():
            assert resumed == rank["seen"]["train"][int(step) :], f"after step {step}"


def test_without_the_distributed_sampler_each_rank_sees_everything(two_ranks: Any) -> None:
    for rank in two_ranks:
        assert sorted(numbers(rank["alone"]["train"], 0)) == list(range(21))
        assert numbers(rank["alone"]["val[0]"], 0) == list(range(9))
