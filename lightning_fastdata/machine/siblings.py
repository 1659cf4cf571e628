"""Which cores stand for one rank's share, where ranks are not bound to cores of their own."""

from collections.abc import Collection, Mapping

from lightning_fastdata.machine.numa import parse_list


def siblings_path(core: int) -> str:
    """Give the file that says which of the kernel's cores are threads of the same real one."""
    return f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"


def choose_rank_cores(
    texts: Mapping[str, str], affinity: Collection[int], count: int
) -> frozenset[int]:
    """Choose cores, taking both threads of a physical core before the next one.

    All ranks together have both: a share of one thread each would compute faster than any rank
    can while the others do as well.

    Args:
        texts: Path to text of what ``siblings_path`` names; a core without is one by itself.
        affinity: The cores to choose from.
        count: How many, 1 or more.

    Returns:
        So many of them, or all where there are no more.
    """

    def of_the_same(core: int) -> tuple[int, int]:
        threads = parse_list(texts.get(siblings_path(core), "")) or frozenset()
        return min(threads & set(affinity), default=core), core

    return frozenset(sorted(affinity, key=of_the_same)[:count])
