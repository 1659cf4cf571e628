"""What becomes of a batch with samples that cannot be made: an error, repeats, or fewer samples."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch.utils.data import IterableDataset

from lightning_fastdata.dataset.views import base_of, resolve_indices
from lightning_fastdata.errors import BadSampleWarning, FastDataError, SampleError, SettingsError
from lightning_fastdata.loader.describe import path_of
from lightning_fastdata.loader.engine import Change, Request
from lightning_fastdata.loader.quarantine import BadSample, Quarantine, refuse_folder
from lightning_fastdata.order import current_ranks, draw_repeat

OnBadSample = Literal["raise", "skip", "leave_out"]
_TRIES = 1000  # of repeats that are bad themselves; only a dataset of bad samples needs so many
_TOLD = 3  # bad samples; then every tenth power
_NAMED = 5  # in an error about too many


@dataclass(frozen=True, kw_only=True, slots=True)
class BadSamplePolicy:
    """What is done about samples that cannot be made."""

    on_bad_sample: OnBadSample = "raise"
    """``raise`` ends the pass; ``skip`` repeats another sample; ``leave_out`` has fewer."""
    max_bad_fraction: float = 0.01
    """Share (0 to 1) of the dataset that may be bad; one sample may be, unless it is 0."""
    quarantine: Path | None = None
    """The file that lists them; ``None`` keeps no file."""

    def __post_init__(self) -> None:
        if self.on_bad_sample not in ("raise", "skip", "leave_out"):
            raise SettingsError(
                f'on_bad_sample={self.on_bad_sample!r}, wanted "raise", "skip" or "leave_out". '
                'Leave it out for "raise".'
            )
        fraction = self.max_bad_fraction
        is_number = isinstance(fraction, (int, float)) and not isinstance(fraction, bool)
        if not is_number or not 0 <= fraction <= 1:
            raise SettingsError(
                f"max_bad_fraction={fraction!r}, wanted a share of the dataset between 0 and 1. "
                "Pass for example 0.01."
            )


def policy_of(
    dataset: Any, on_bad_sample: Any, max_bad_fraction: float, quarantine: Any
) -> BadSamplePolicy:
    """Check a loader's arguments about bad samples.

    Raises:
        SettingsError: If one cannot work, or a stream should go on after a bad sample.
    """
    path = None if quarantine is None else Path(quarantine).expanduser()
    policy = BadSamplePolicy(
        on_bad_sample=on_bad_sample, max_bad_fraction=max_bad_fraction, quarantine=path
    )
    if isinstance(dataset, IterableDataset) and on_bad_sample != "raise":
        raise SettingsError(
            f'on_bad_sample="{on_bad_sample}" with an IterableDataset, wanted "raise": an iterator '
            "that has raised gives nothing more. Catch the error inside the dataset's __iter__, "
            "or use a map-style dataset."
        )
    if path is not None and on_bad_sample == "raise":
        raise SettingsError(
            f'quarantine={str(quarantine)!r} with on_bad_sample="raise", wanted "skip" or '
            '"leave_out": no sample is ever put in quarantine otherwise. Leave one of them out.'
        )
    if path is not None:
        refuse_folder(path)
    return policy


def mender_of(
    dataset: Any, on_bad_sample: Any, max_bad_fraction: float, quarantine: Any
) -> "Mender | None":
    """Make a loader's ``Mender`` of its arguments; ``None`` for a stream, which needs none.

    Raises:
        SettingsError: If one cannot work, or a stream should go on after a bad sample.
    """
    policy = policy_of(dataset, on_bad_sample, max_bad_fraction, quarantine)
    return None if isinstance(dataset, IterableDataset) else Mender(dataset, policy)


class Mender:
    """Decides for one loader, in the training process, so that no engine has to.

    Args:
        dataset: The loader's, map-style.
        policy: What is done.
    """

    def __init__(self, dataset: Any, policy: BadSamplePolicy) -> None:
        self._dataset, self._base, self._policy = dataset, base_of(dataset), policy
        self._quarantine: Quarantine | None = None

    @property
    def raises(self) -> bool:
        """Whether a bad sample ends the pass, so that the first one is all there is to know."""
        return self._policy.on_bad_sample == "raise"

    def bad_samples(self) -> list[BadSample]:
        """All bad samples known so far, those of earlier runs first."""
        return [] if self._quarantine is None else list(self._quarantine)

    def prepared(self, request: Request) -> Request:
        """Mend a request whose bad samples are known before it is made."""
        if self.raises:
            return request
        known = self._known()
        if not len(known):
            return request
        return self._mended(request)

    def mend(self, request: Request, bad: Sequence[tuple[int, Exception]]) -> Request:
        """Give a request that can be made, after samples of this one could not.

        Args:
            request: What was asked for.
            bad: The row of each bad sample and what it raised.

        Raises:
            Exception: What the first one raised, where that is the policy.
            SampleError: If too many are bad, or there is none to take a bad one's place.
        """
        if self.raises:
            row, error = min(bad, key=lambda one: one[0])
            raise self._named(error, request, row)
        known = self._known()
        for row, error in bad:
            index = self._base_index(request.keys[row])
            if index not in known:
                path = path_of(self._base, index)
                found = BadSample.of(index, path, error, known.rank)
                known.add(found)
                self._tell(found)
        self._refuse_too_many(known)
        mended = self._mended(request)
        if mended.changes == request.changes:
            row, error = bad[0]
            raise SampleError(
                f"sample {request.keys[row]} cannot be told from others by its key, so nothing can "
                f"take its place, wanted whole numbers or strings. It raised {error!r}."
            ) from error
        return mended

    def note(self, request: Request) -> None:
        """Keep account of a batch that is handed over."""
        if request.changes:
            pairs = [
                (self._base_index(change.skipped), self._base_index(change.repeated))
                for change in request.changes
                if change.repeated is not None
            ]
            if pairs:
                self._known().note_repeats(request.epoch, pairs)

    def _known(self) -> Quarantine:
        if self._quarantine is None:
            kind, length = type(self._base).__name__, len(self._base)
            self._quarantine = Quarantine(self._policy.quarantine, kind, length, current_ranks()[1])
            if self._quarantine.strangers:
                warnings.warn(
                    f"{self._quarantine.strangers} lines of {self._policy.quarantine} are not "
                    f"about this {kind} of {length} samples and are left alone: samples were "
                    "added or removed since, or it is another dataset's list.",
                    BadSampleWarning,
                    stacklevel=2,
                )
            if len(self._quarantine):
                warnings.warn(
                    f"{self._policy.quarantine} lists {len(self._quarantine)} bad samples of the "
                    f"{kind}, which are {self._done}. Delete the file to have them tried again.",
                    BadSampleWarning,
                    stacklevel=2,
                )
                self._refuse_too_many(self._quarantine)
        return self._quarantine

    @property
    def _done(self) -> str:
        return "replaced" if self._policy.on_bad_sample == "skip" else "left out"

    def _mended(self, request: Request) -> Request:
        request = request.unchanged()
        known = self._known()
        rows = [row for row, index in enumerate(self._base_indices(request)) if index in known]
        if not rows:
            return request
        if self._policy.on_bad_sample == "leave_out":
            return request.without(rows)
        return request.with_changes(
            [
                Change(row=row, skipped=request.keys[row], repeated=self._repeat_for(request, row))
                for row in rows
            ]
        )

    def _repeat_for(self, request: Request, row: int) -> Any:
        """Another sample of the order; the same whoever asks, whenever.

        A sampler of the user's may give only some of the dataset (the training side of a split, for
        example), so there it is one that the sampler has given just before, or of the same batch.
        """
        known, keys = self._known(), request.keys
        given = [*request.spare, *keys]
        for attempt in range(_TRIES):
            drawn = draw_repeat(request.key, keys[row] if request.order_length else row, attempt)
            length = request.order_length
            found = drawn % length if length else given[drawn % len(given)]
            if self._base_index(found) not in known:
                return found
        where = "dataset" if request.order_length else "batch that the sampler gave"
        raise SampleError(
            f"sample {keys[row]} could not be made, and neither could {_TRIES} others of the "
            f"{where}, wanted a good one to repeat in its place. Look at the errors in "
            f"{known.path or 'the warnings'}."
        )

    def _base_indices(self, request: Request) -> list[Any]:
        if self._base is not self._dataset and isinstance(request.indices, np.ndarray):
            # All at once: one by one took 52 ms a batch of 256 in a split (by hand).
            return list(resolve_indices(self._dataset, request.indices).tolist())
        return [self._base_index(key) for key in request.keys]

    def _base_index(self, key: Any) -> Any:
        if isinstance(key, int) and self._base is not self._dataset:
            return int(resolve_indices(self._dataset, np.array([key]))[0])
        return key if isinstance(key, (int, str)) else repr(key)

    def _named(self, error: Exception, request: Request, row: int) -> Exception:
        index = self._base_index(request.keys[row])
        path = path_of(self._base, index)
        is_ours = isinstance(error, FastDataError) and not hasattr(error, "__notes__")
        if not is_ours or (path and path in str(error)):
            return error  # who raised it has named the sample
        where = f"{path}" if path else f"index {index!r} of the {type(self._base).__name__}"
        named = type(error)(f"{error}\nThe sample: {where}.")
        named.__cause__ = error.__cause__
        return named

    def _tell(self, bad: BadSample) -> None:
        count = len(self._known())
        if count > _TOLD and 10 ** (len(str(count)) - 1) != count:
            return
        where = self._known().path
        so_far = f" {count} so far{f', all listed in {where}' if where else ''}."
        warnings.warn(
            f"sample {bad.index}{f' ({bad.path})' if bad.path else ''} could not be made and is "
            f"{self._done}: {bad.error.rstrip('.')}.{so_far}",
            BadSampleWarning,
            stacklevel=2,
        )

    def _refuse_too_many(self, known: Quarantine) -> None:
        length = len(self._base)
        fraction = self._policy.max_bad_fraction
        allowed = max(1, int(fraction * length)) if fraction else 0
        if len(known) <= allowed:
            return
        named = "; ".join(f"{bad.path or bad.index}: {bad.error}" for bad in list(known)[:_NAMED])
        aside = known.disown()
        kept = f" This run's list is kept in {aside}, which no run reads." if aside else ""
        raise SampleError(
            f"{len(known)} of {length} samples could not be made, wanted at most {allowed} "
            f"(max_bad_fraction={fraction:g}). The first: {named}.{kept} Look at what they have in "
            "common, or pass a larger max_bad_fraction."
        )
