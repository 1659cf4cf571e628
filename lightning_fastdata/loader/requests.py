"""From an order to requests: what each batch of one pass consists of."""

import copy
import operator
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DistributedSampler

from lightning_fastdata.loader.check import refuse_empty_share
from lightning_fastdata.loader.engine import Request
from lightning_fastdata.loader.position import Position
from lightning_fastdata.order import EpochKey, EpochOrder, current_ranks, seeds_at

_SPARE = 64  # keys remembered of a user's sampler; more than are ever bad in a row
_POSITIONS_AT_ONCE = 4096  # planned together: about 0.1 microseconds a sample instead of 0.5


def own_order(dataset: Any, shuffle: Any, seed: int, drop_last: bool) -> EpochOrder:
    """The order of a loader whose user has no sampler."""
    return EpochOrder(dataset, shuffle=bool(shuffle), seed=seed, drop_last=drop_last)


def cut_order(sampler: Any, batch_sampler: Any) -> EpochOrder | None:
    """Our order, where batches are plain cuts of it; ``None`` where a sampler has a say."""
    plain = batch_sampler is None or type(batch_sampler) is BatchSampler
    return sampler if plain and isinstance(sampler, EpochOrder) else None


def replicas_of(sampler: Any) -> int:
    """How many ranks share the samples that a sampler gives."""
    return sampler.num_replicas if isinstance(sampler, DistributedSampler) else 1


def requests_from(loader: Any, position: Position) -> Iterator[Request]:
    """Give the requests of a loader's pass from a position on.

    Raises:
        SettingsError: If ``drop_last`` leaves none for this rank.
    """
    if isinstance(loader.sampler, EpochOrder):
        loader.sampler.begin(position.key, position.samples)
    refuse_empty_share(loader)
    order = cut_order(loader.sampler, loader.batch_sampler)
    if order is not None:
        return requests_of_order(order, loader.batch_size, loader.drop_last, position.batches)
    sampler = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
    return requests_of_sampler(
        sampler,
        position.key,
        batched=loader.batch_sampler is not None,
        skip_batches=position.batches,
    )


def requests_of_order(
    order: EpochOrder, batch_size: int | None, drop_last: bool, first_batch: int
) -> Iterator[Request]:
    """Cut this rank's share of an order into batches, from the order's ``start`` on.

    Args:
        order: Whose pass has been chosen with ``begin``.
        batch_size: Samples a batch, 1 or more; ``None`` asks for single samples.
        drop_last: Whether a last batch that is not full is left out.
        first_batch: Number of the first request.
    """
    order = copy.copy(order)  # another pass may be chosen while this one is under way
    batched, batch_size = batch_size is not None, batch_size or 1
    share = len(order)
    batches = share // batch_size if drop_last else -(-share // batch_size)
    at_once = max(1, _POSITIONS_AT_ONCE // batch_size)
    for group in range(0, batches, at_once):
        wanted = min(at_once, batches - group) * batch_size
        positions = order.positions(group * batch_size, wanted)
        samples, seeds = order.samples_at(positions), seeds_at(positions, order.key)
        batch_seeds = seeds_at(positions[::batch_size], order.key, of_batches=True).tolist()
        for k, batch_seed in enumerate(batch_seeds):
            part = slice(k * batch_size, (k + 1) * batch_size)
            yield Request(
                number=first_batch + group + k,
                epoch=order.epoch,
                indices=samples[part] if batched else int(samples[k]),
                seeds=seeds[part],
                batch_seed=batch_seed,
                key=order.key,
                batched=batched,
                order_length=order.length,
            )


def requests_of_sampler(
    sampler: Any, key: EpochKey, *, batched: bool, skip_batches: int
) -> Iterator[Request]:
    """Turn what any sampler or batch sampler yields into requests.

    Args:
        sampler: A batch sampler where ``batched``, else a sampler of single keys.
        key: Names the random numbers of this pass.
        batched: Whether the sampler yields lists of keys.
        skip_batches: How many have been consumed before; they are drawn, but not made.
    """
    inner = getattr(sampler, "sampler", None) if isinstance(sampler, BatchSampler) else sampler
    replicas, rank = (
        (inner.num_replicas, inner.rank)
        if isinstance(inner, DistributedSampler)
        else current_ranks()
    )
    drawn, recent = 0, deque[Any](maxlen=_SPARE)
    for number, keys in enumerate(sampler):
        size = len(keys) if batched else 1
        positions = np.arange(drawn, drawn + size, dtype=np.int64) * replicas + rank
        drawn += size
        spare = tuple(recent)
        recent.extend(map(_plain, keys) if batched else [_plain(keys)])
        if number < skip_batches:
            continue
        yield Request(
            number=number,
            epoch=key.epoch,
            indices=_batch_of_keys(list(keys)) if batched else _plain(keys),
            seeds=seeds_at(positions, key),
            batch_seed=int(seeds_at(positions[:1], key, of_batches=True)[0]) if size else 0,
            key=key,
            batched=batched,
            spare=spare,
        )


def seed_of_stream(number: int, key: EpochKey) -> int:
    """The seed of what is done with batch ``number`` of a stream; no two ranks share one."""
    replicas, rank = current_ranks()
    position = np.array([number * replicas + rank])
    return int(seeds_at(position, key, of_batches=True)[0])


def _batch_of_keys(keys: list[Any]) -> Any:
    plain = [_plain(key) for key in keys]
    if plain and all(type(key) is int and -(2**63) <= key < 2**63 for key in plain):
        return np.array(plain, dtype=np.int64)
    return plain


def _plain(key: Any) -> Any:
    if isinstance(key, torch.Tensor) and key.ndim:
        return key  # several keys at once, as a dataset without automatic batching may take them
    if isinstance(key, (int, np.integer, torch.Tensor)):
        return operator.index(key)
    return key
