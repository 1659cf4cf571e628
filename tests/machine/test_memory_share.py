from hypothesis import given
from hypothesis import strategies as st

from lightning_fastdata.machine.memory import parse_counters, parse_limit, share_memory

MEMINFO = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    500 kB\n"


def test_the_largest_page_aligned_number_is_no_limit_for_any_page_size():
    for page_bytes in (4096, 16384, 65536):
        assert parse_limit(f"{(2**63 - 1) // page_bytes * page_bytes}\n") is None


def test_names_with_brackets_and_values_without_units_are_read():
    text = "Active(anon):   12 kB\nHugePages_Total:       3\nodd line\n"

    assert parse_counters(text) == {"Active(anon)": 12, "HugePages_Total": 3}


@given(limit=st.integers(0, 9), used=st.integers(0, 9), droppable=st.integers(0, 9))
def test_what_is_left_is_never_negative_nor_above_limit_or_machine(limit, used, droppable):
    texts = {
        "/cg/memory.max": f"{limit * 102400}\n",
        "/cg/memory.current": f"{used * 102400}\n",
        "/cg/memory.stat": f"inactive_file {droppable * 102400}\n",
    }

    share = share_memory(MEMINFO, ["/cg"], texts)

    in_use = max(0, used - droppable)
    assert share.available_bytes == min(500 * 1024, max(0, limit - in_use) * 102400)


def test_the_tightest_is_what_leaves_least_not_the_smallest_limit():
    texts = {
        "/cg/a/memory.max": "300000\n",
        "/cg/a/memory.current": "0\n",
        "/cg/memory.max": "400000\n",
        "/cg/memory.current": "390000\n",
    }

    share = share_memory(MEMINFO, ["/cg/a", "/cg"], texts)

    assert share.available_bytes == 10000
    assert "/cg/memory.max" in share.reason


def test_version_1_counts_the_limit_of_an_ancestor_that_cannot_be_seen():
    texts = {
        "/cg/memory.limit_in_bytes": "9223372036854771712\n",
        "/cg/memory.usage_in_bytes": "100000\n",
        "/cg/memory.stat": "hierarchical_memory_limit 250000\ntotal_inactive_file 50000\n",
    }

    share = share_memory(MEMINFO, ["/cg"], texts)

    assert share.available_bytes == 200000
    assert "/cg/memory.stat" in share.reason


def test_a_limit_without_its_use_counts_whole_and_says_so():
    share = share_memory(MEMINFO, ["/cg"], {"/cg/memory.max": "4096\n"})

    assert share.available_bytes == 4096
    assert share.notes[0].endswith("the whole limit counts as free.")


def test_an_old_kernel_without_mem_available_gives_what_is_free():
    share = share_memory("MemTotal: 1000 kB\nMemFree: 100 kB\n", [], {})

    assert share.available_bytes == 102400
    assert share.notes == ("/proc/meminfo has no MemAvailable; MemFree is taken, which is less.",)


def test_without_any_text_it_is_not_measured():
    share = share_memory(None, [], {})

    assert (share.available_bytes, share.reason) == (None, "not measured.")
