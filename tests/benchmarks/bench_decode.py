"""How many pictures a second does one core turn into training samples, file to 224 x 224 tensor?

Run ``python tests/benchmarks/bench_decode.py [--pictures 100] [--rounds 7] [--only fastdata]``; it
prints one JSON line per variant. Every variant reads the same ImageNet files and, seeded alike,
cuts the same boxes and mirrors the same samples.

    fastdata         ImageFolder as it is
    fastdata_into    the same into rows of one batch buffer, so nothing is stacked afterwards
    whole            simplejpeg decodes every row, else as ``fastdata``: what trimming rows saves
    pillow_resize    Pillow's ``resize(box=...)`` instead of torch's uint8 resize
    pillow_draft     Pillow's decoder with ``draft``, then torch's resize
    torchvision      torchvision.io.decode_image, v2.RandomResizedCrop(antialias), v2 flip, uint8
    pil_float        PIL, RandomResizedCrop, flip, ToTensor, Normalize: the common recipe
    dct_K_8          only decoding, at K eighths of the size: which scales are worth having
    stack_64         torch.stack of 64 ready samples, per sample: all that batch-wise filling saves
"""

import argparse
import io
import json
import platform
import random
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from PIL import Image
from torchvision import transforms
from torchvision.io import ImageReadMode, decode_image, read_file
from torchvision.transforms import v2

from lightning_fastdata.dataset import image_decode
from lightning_fastdata.dataset.image_folder import IMAGENET_MEAN, IMAGENET_STD, ImageFolder

SAMPLE = Path(__file__).resolve().parents[2].parent / "shared/data/imagenet-sample"
WARMUP = 1
BLOCK = 10
SIZE = 224


def fastdata(dataset: ImageFolder) -> Callable[[int], torch.Tensor]:
    return lambda index: dataset[index][0]


def fastdata_into(dataset: ImageFolder) -> Callable[[int], torch.Tensor]:
    batch = torch.empty((64, 3, SIZE, SIZE), dtype=torch.uint8)

    def make(index: int) -> torch.Tensor:
        dataset.decode_into(batch[index % 64], index)
        return batch[index % 64]

    return make


def from_pixels(
    dataset: ImageFolder, decode: Callable[[bytearray], np.ndarray]
) -> Callable[[int], torch.Tensor]:
    def make(index: int) -> torch.Tensor:
        pixels = decode(image_decode.read_file(dataset.sample_path(index)))
        out = torch.empty((3, SIZE, SIZE), dtype=torch.uint8)
        image_decode._resize_into(out, pixels, 1, dataset._plan_cut(*pixels.shape[:2]))
        return out

    return make


def pillow_draft(data: bytearray) -> np.ndarray:
    picture = Image.open(io.BytesIO(data))
    picture.draft("RGB", None)
    return np.array(picture.convert("RGB"))


def pillow_resize(dataset: ImageFolder) -> Callable[[int], torch.Tensor]:
    def make(index: int) -> torch.Tensor:
        pixels = simplejpeg.decode_jpeg(image_decode.read_file(dataset.sample_path(index)))
        (top, left, height, width), _, mirrored = dataset._plan_cut(*pixels.shape[:2])
        resized = Image.fromarray(pixels).resize(
            (SIZE, SIZE), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height)
        )
        out = torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()
        return out.flip(-1) if mirrored else out

    return make


def torchvision_uint8(dataset: ImageFolder) -> Callable[[int], torch.Tensor]:
    transform = v2.Compose([v2.RandomResizedCrop(SIZE, antialias=True), v2.RandomHorizontalFlip()])

    def make(index: int) -> torch.Tensor:
        data = read_file(dataset.sample_path(index))
        return transform(decode_image(data, mode=ImageReadMode.RGB))

    return make


def pil_float(dataset: ImageFolder) -> Callable[[int], torch.Tensor]:
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )

    def make(index: int) -> torch.Tensor:
        with open(dataset.sample_path(index), "rb") as file:
            return transform(Image.open(file).convert("RGB"))

    return make


def dct(dataset: ImageFolder, eighths: int) -> Callable[[int], torch.Tensor]:
    def make(index: int) -> torch.Tensor:
        data = image_decode.read_file(dataset.sample_path(index))
        height, width = simplejpeg.decode_jpeg_header(data)[:2]
        least = {"min_height": -(-height * eighths // 8), "min_width": -(-width * eighths // 8)}
        return torch.from_numpy(simplejpeg.decode_jpeg(data, **least))

    return make


def stack_64() -> Callable[[int], torch.Tensor]:
    samples = [torch.zeros((3, SIZE, SIZE), dtype=torch.uint8) for _ in range(64)]
    return lambda index: torch.stack(samples) if index % 64 == 0 else samples[0]


def refuse_wrong_answers(variants: dict[str, Callable[[int], torch.Tensor]], count: int) -> None:
    """The same box and mirroring, so the same picture, up to decoding and rounding."""
    for index in range(0, count, max(1, count // 10)):
        answers = {}
        for name, make in variants.items():
            torch.manual_seed(index)
            answers[name] = make(index).double()
        mean = torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
        std = torch.tensor(IMAGENET_STD).view(3, 1, 1)
        answers["pil_float"] = (answers["pil_float"] * std + mean) * 255
        wanted = answers["torchvision"]
        for name, answer in answers.items():
            error = (answer - wanted).abs().mean().item()
            assert error < 3.0, f"never time a wrong answer: {name}, sample {index}: {error}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*", default=[], metavar="VARIANT")
    settings = parser.parse_args()
    warnings.simplefilter("ignore")  # torchvision.io says at each call that it is deprecated
    torch.set_num_threads(1)
    dataset = ImageFolder(SAMPLE, size=SIZE, train=True)
    samples = {
        "fastdata": fastdata(dataset),
        "fastdata_into": fastdata_into(dataset),
        "whole": from_pixels(dataset, simplejpeg.decode_jpeg),
        "pillow_resize": pillow_resize(dataset),
        "pillow_draft": from_pixels(dataset, pillow_draft),
        "torchvision": torchvision_uint8(dataset),
        "pil_float": pil_float(dataset),
    }
    count = min(settings.pictures, len(dataset))
    indices = range(0, len(dataset), len(dataset) // count)[:count]
    refuse_wrong_answers(samples, len(dataset))
    parts = {f"dct_{eighths}_8": dct(dataset, eighths) for eighths in (8, 7, 6, 5, 4, 2, 1)}
    variants = samples | parts | {"stack_64": stack_64()}
    if settings.only:
        variants = {name: variants[name] for name in ["torchvision", *settings.only]}

    times_ns: dict[str, list[int]] = {name: [] for name in variants}
    order = random.Random(0)
    for round_number in range(WARMUP + settings.rounds):
        spent_ns = dict.fromkeys(variants, 0)
        for start in range(0, count, BLOCK):
            # Interleaved block by block, so drift hits all alike; in random order, since whoever
            # comes after an equal finds its code and the files' bytes warm.
            for name in order.sample(list(variants), len(variants)):
                make = variants[name]
                torch.manual_seed(round_number * count + start)
                start_ns = time.perf_counter_ns()
                for place in range(start, min(start + BLOCK, count)):
                    make(place if name == "stack_64" else indices[place])
                spent_ns[name] += time.perf_counter_ns() - start_ns
        for name, of_round_ns in spent_ns.items():
            times_ns[name].append(of_round_ns)

    machine = {"machine": platform.processor() or platform.machine(), "torch": torch.__version__}
    for name, rounds_ns in times_ns.items():
        low, median, high = (
            count * 1e9 / value for value in reversed(statistics.quantiles(rounds_ns[WARMUP:], n=4))
        )
        rates = {"per_s": median, "low_quartile_per_s": low, "high_quartile_per_s": high}
        ratio = statistics.median(times_ns["torchvision"][WARMUP:]) / statistics.median(
            rounds_ns[WARMUP:]
        )
        facts = {"variant": name, "pictures": count, "rounds": settings.rounds}
        rounded = {key: round(value, 1) for key, value in rates.items()}
        print(json.dumps(facts | rounded | {"times_torchvision": round(ratio, 3)} | machine))


if __name__ == "__main__":
    main()
