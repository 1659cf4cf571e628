"""What a replay needs to know of a machine, read from what was recorded there."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from lightning_fastdata.trace.work import BatchTimes


def handing_ns_of(batches: Sequence[BatchTimes], *, quantile: float = 0.5) -> int | None:
    """Give a worker's time between two chunks, where the second was there already.

    Args:
        batches: Any that were recorded, of one loader and one setting.
        quantile: Of all such times, 0 to 1: by default the median, with what workers usually wait
            for a core. A lower one is that of a core that was free.

    Returns:
        The time; ``None`` if no worker ever had a chunk to go on with.
    """
    work: defaultdict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for batch in batches:
        sent_ns = batch.asked_ns if batch.sent_ns is None else batch.sent_ns
        for chunk in batch.chunks:
            if chunk.worker is not None:
                work[chunk.worker].append((chunk.began_ns, chunk.ended_ns, sent_ns))
    gaps_ns = [
        max(0, began_ns - ended_ns)
        for chunks in work.values()
        for (_, ended_ns, _), (began_ns, _, sent_ns) in pairwise(sorted(chunks))
        if sent_ns <= ended_ns
    ]
    return round(float(np.quantile(gaps_ns, quantile))) if gaps_ns else None
