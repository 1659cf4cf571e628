"""Pictures of our ``ImageFolder`` reach the step as normalised floats; no other data is touched."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._pytree import tree_leaves
from torch.utils.data import Subset, TensorDataset
from toy_runs import BATCH, BOTH, At, Numbers, Stream, a_model, a_trainer, fit, plain

from lightning_fastdata import FastDataModule, ImageFolder

SIZE, PICTURES = 32, 6


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for number in range(PICTURES):
        pixels = random.integers(0, 256, (40 + number, 48, 3), dtype=np.uint8)
        (root / f"class{number % 2}").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / f"class{number % 2}" / f"{number}.jpg")
    return root


def pictures(folder: Path, **settings: Any) -> ImageFolder:
    return ImageFolder(folder, size=SIZE, **settings)


def test_the_split_off_pictures_are_whole_ones_and_not_random_boxes(folder: Path) -> None:
    data = FastDataModule(pictures(folder, train=True), val_fraction=0.5, device_transform=None)
    whole = pictures(folder)

    loader = data.val_dataloader()
    images, _ = next(iter(loader))

    chosen = [loader.dataset.sample_path(index) for index in range(len(images))]
    wanted = {whole.sample_path(index): whole[index][0] for index in range(len(whole))}
    assert all(torch.equal(image, wanted[path]) for image, path in zip(images, chosen, strict=True))
    assert data.train_dataloader().dataset.dataset.train


class Keeps:
    """Keeps the batches of a training run as they came."""

    def __init__(self) -> None:
        self.batches: list[Any] = []

    def step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.batches.append(batch)
        return torch.zeros((), requires_grad=True)


def batches_in_a_trainer(
    data: Any,
    folder: Path,
    *callbacks: Any,
    ckpt_path: Any = None,
    namespace: Any = None,
    **options: Any,
) -> list[Any]:
    keeps = Keeps()
    kind = {} if namespace is None else {"namespace": namespace}
    model = a_model(**kind, evaluates=False)
    model.training_step = keeps.step
    fit(data, folder, *callbacks, model=model, ckpt_path=ckpt_path, **kind, **options)
    return keeps.batches


def normalized(raw: torch.Tensor) -> torch.Tensor:
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    return (raw.double() / 255 - mean) / std


@BOTH
def test_pictures_come_normalised_in_a_trainer(
    namespace: Any, folder: Path, tmp_path: Path
) -> None:
    data = FastDataModule(pictures(folder), batch_size=BATCH, shuffle=False)

    (images, labels), _ = batches_in_a_trainer(data, tmp_path, namespace=namespace)

    raw = torch.stack([pictures(folder)[n][0] for n in range(BATCH)])
    torch.testing.assert_close(images.double(), normalized(raw), atol=1e-6, rtol=0)
    assert images.dtype is torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert labels.tolist() == [0, 0, 0, 1]


def test_pictures_come_normalised_without_a_trainer(folder: Path, tmp_path: Path) -> None:
    data = FastDataModule(pictures(folder), batch_size=BATCH, shuffle=False)

    images, _ = next(iter(data.train_dataloader()))

    assert torch.equal(images, batches_in_a_trainer(data, tmp_path)[0][0])


def test_a_split_of_pictures_is_normalised_on_both_sides(folder: Path) -> None:
    data = FastDataModule(pictures(folder), batch_size=2, val_fraction=0.5)

    for loader in (data.train_dataloader(), data.val_dataloader()):
        images, _ = next(iter(loader))
        assert images.dtype is torch.float32


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("bf16-true", torch.bfloat16), ("32-true", torch.float32), ("64-true", torch.float64)],
)
def test_pictures_come_in_the_precision_of_the_step(
    precision: Any, dtype: torch.dtype, folder: Path, tmp_path: Path
) -> None:
    data = FastDataModule(pictures(folder), batch_size=BATCH)

    (images, labels), _ = batches_in_a_trainer(data, tmp_path, precision=precision)

    assert images.dtype is dtype
    assert labels.dtype is torch.int64


def test_no_device_transform_gives_the_bytes(folder: Path, tmp_path: Path) -> None:
    data = FastDataModule(pictures(folder), batch_size=BATCH, shuffle=False, device_transform=None)

    (images, _), _ = batches_in_a_trainer(data, tmp_path)

    assert images.dtype is torch.uint8
    assert torch.equal(images[2], pictures(folder)[2][0])


def test_pictures_with_a_transform_of_the_users_are_left_alone(
    folder: Path, tmp_path: Path
) -> None:
    own = pictures(folder, transform=lambda picture: torch.full((2,), 7, dtype=torch.uint8))

    (images, _), _ = batches_in_a_trainer(FastDataModule(own, batch_size=BATCH), tmp_path)

    assert images.tolist() == [[7, 7]] * BATCH


@pytest.mark.parametrize("chosen", [None, [3, 1, 2, 0]])
def test_tensors_of_other_datasets_are_never_altered(chosen: Any, tmp_path: Path) -> None:
    whole = TensorDataset(torch.arange(4 * 3 * 8 * 8, dtype=torch.uint8).view(4, 3, 8, 8))
    dataset = whole if chosen is None else Subset(whole, chosen)

    ((images,),) = batches_in_a_trainer(
        FastDataModule(dataset, batch_size=BATCH, shuffle=False), tmp_path
    )

    assert torch.equal(images, whole.tensors[0][chosen or slice(None)])


def test_real_photographs_go_through_a_run(imagenet_sample: Path, tmp_path: Path) -> None:
    data = FastDataModule(
        ImageFolder(imagenet_sample, size=SIZE, train=True), batch_size=16, num_workers=2
    )

    batches = batches_in_a_trainer(data, tmp_path, limit_train_batches=3)

    assert [images.shape for images, _ in batches] == [(16, 3, SIZE, SIZE)] * 3
    assert all(-2.2 < images.min() < images.max() < 2.7 for images, _ in batches)


def mix_up(batch: Any) -> Any:
    share = torch.rand(())
    return batch * share + batch.flip(0) * (1 - share) + float(np.random.rand())


class TestARandomDeviceTransform:
    def batches(self, folder: Path, *callbacks: Any, ckpt_path: Any = None, **settings: Any) -> Any:
        data = FastDataModule(Numbers(), batch_size=BATCH, device_transform=mix_up, **settings)
        run = batches_in_a_trainer(data, folder, *callbacks, ckpt_path=ckpt_path, max_epochs=2)
        return [plain(batch) for batch in run]

    def test_is_the_same_for_any_number_of_workers_and_any_other_draw(self, tmp_path: Path) -> None:
        torch.manual_seed(1)
        inline = self.batches(tmp_path, num_workers=0)
        torch.manual_seed(2)

        assert self.batches(tmp_path, num_workers=2) == inline

    def test_is_another_one_each_batch_and_epoch_and_seed(self, tmp_path: Path) -> None:
        def shares(seed: int) -> list[float]:
            def share(batch: Any) -> Any:
                return torch.rand(1)

            data = FastDataModule(Numbers(), batch_size=BATCH, device_transform=share, seed=seed)
            return [float(n) for n in batches_in_a_trainer(data, tmp_path, max_epochs=2)]

        assert len({*shares(0), *shares(1)}) == 24

    def test_is_the_same_after_a_resume(self, tmp_path: Path) -> None:
        path = tmp_path / "saved.ckpt"

        def save(trainer: Any) -> None:
            if trainer.global_step == 8:
                trainer.save_checkpoint(path)

        whole = self.batches(tmp_path, At(save))

        assert self.batches(tmp_path, ckpt_path=path) == whole[8:]

    def test_of_a_stream_is_another_one_each_batch(self, tmp_path: Path) -> None:
        def share(batch: Any) -> Any:
            return torch.rand(1)

        data = FastDataModule(Stream(), batch_size=BATCH, device_transform=share)
        drawn = [float(n) for n in batches_in_a_trainer(data, tmp_path, max_epochs=2)]

        assert len(set(drawn)) == 12

    def test_leaves_the_runs_own_numbers_alone(self, tmp_path: Path) -> None:
        torch.manual_seed(3)
        expected = torch.rand(2)
        data = FastDataModule(Numbers(), batch_size=BATCH, device_transform=mix_up)
        model = a_model(evaluates=False)

        torch.manual_seed(3)
        a_trainer(tmp_path).fit(model, datamodule=data)

        assert torch.equal(torch.rand(2), expected)


class Nested(Numbers):
    def __getitem__(self, index: int) -> Any:
        number = super().__getitem__(index)
        return {"a": number, "b": [number + 1, (number + 2, index)]}


@pytest.mark.gpu
class TestOnADevice:
    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_every_tensor_of_a_nested_batch_arrives(self, num_workers: int, tmp_path: Path) -> None:
        on_device, on_host = (
            batches_in_a_trainer(
                FastDataModule(Nested(), batch_size=BATCH, num_workers=num_workers),
                tmp_path,
                accelerator=accelerator,
            )
            for accelerator in ("gpu", "cpu")
        )

        tensors = [tensor for batch in on_device for tensor in tree_leaves(batch)]
        assert len(tensors) == 6 * 4
        assert all(tensor.device.type == "cuda" for tensor in tensors)
        assert [plain(batch) for batch in on_device] == [plain(batch) for batch in on_host]

    @pytest.mark.filterwarnings("ignore:You have overridden `on_before_batch_transfer`")
    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_every_tensor_of_a_nested_batch_is_pinned_before_it_is_copied(
        self, num_workers: int, tmp_path: Path
    ) -> None:
        """Seen in the user's hook before the transfer, where batches are still on the host."""
        pinned: list[bool] = []

        def look(batch: Any, dataloader_idx: int) -> Any:
            pinned.extend(tensor.is_pinned() for tensor in tree_leaves(batch))
            return batch

        model = a_model(evaluates=False)
        model.training_step = Keeps().step
        model.on_before_batch_transfer = look
        data = FastDataModule(Nested(), batch_size=BATCH, num_workers=num_workers)

        fit(data, tmp_path, model=model, accelerator="gpu")

        assert pinned == [True] * 6 * 4

    def test_pictures_are_the_same_as_on_the_host(self, folder: Path, tmp_path: Path) -> None:
        data = FastDataModule(pictures(folder), batch_size=BATCH, shuffle=False)

        (on_device, _), _ = batches_in_a_trainer(data, tmp_path, accelerator="gpu")
        (on_host, _), _ = batches_in_a_trainer(data, tmp_path)

        assert on_device.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(on_device.cpu(), on_host, atol=1e-6, rtol=0)
