"""What users may rely on: these names, importable, documented, and no others."""

import subprocess
import sys

import pytest

import lightning_fastdata

PUBLIC = {
    "DataStallProfiler",
    "FastDataError",
    "FastDataLoader",
    "FastDataModule",
    "Finding",
    "ImageFolder",
    "LoaderPlan",
    "StallSummary",
    "doctor",
    "stage",
    "tune",
}


def test_exactly_these_names_are_public() -> None:
    assert set(lightning_fastdata.__all__) == PUBLIC
    assert len(lightning_fastdata.__all__) == len(PUBLIC) <= 12


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_is_documented_and_of_this_package(name: str) -> None:
    value = getattr(lightning_fastdata, name)

    assert value.__name__ == name
    assert value.__module__.startswith("lightning_fastdata.")
    if isinstance(value, type):
        assert "__doc__" in vars(value), "inherited words are about something else"
    assert value.__doc__.strip()


def test_dir_shows_every_public_name_before_it_is_used() -> None:
    statement = "import lightning_fastdata; print(*dir(lightning_fastdata))"

    printed = subprocess.check_output([sys.executable, "-c", statement], text=True)

    assert set(printed.split()) >= PUBLIC


def test_a_star_import_brings_exactly_the_public_names() -> None:
    namespace: dict[str, object] = {}

    exec("from lightning_fastdata import *", namespace)

    assert set(namespace) - {"__builtins__"} == PUBLIC


def test_an_unknown_name_is_an_attribute_error_that_says_which() -> None:
    with pytest.raises(AttributeError, match=r"lightning_fastdata.*NoSuchName"):
        getattr(lightning_fastdata, "NoSuchName")  # noqa: B009 - mypy knows that it is not there


def test_the_version_is_a_release_number() -> None:
    major, minor, patch = lightning_fastdata.__version__.split(".")

    assert all(part.isdigit() for part in (major, minor, patch))
