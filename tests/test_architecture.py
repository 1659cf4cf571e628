"""The shape of the house: who may import whom, how long a room may be, what an import may start."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "lightning_fastdata"
SOURCES = sorted(PACKAGE.rglob("*.py"))
STREET = ["errors", "trace", "plan", "machine", "order", "dataset", "tuning", "loader", "transfer"]
STREET += [
    "checkup",
    "trials",
    "stalls",
    "report",
    "datamodule",
    "callback",
    "autotune",
    "plugin",
    "cli",
]
DOORS = {
    "datamodule",
    "callback",
    "autotune",
    "plugin",
    "cli",
}  # the only rooms that may know Lightning
LIGHTNING = {"lightning", "lightning_fabric", "pytorch_lightning"}
MAY_PRINT = {"report", "cli"}

IMPORT_AND_LIST_WHAT_STARTED = """
import importlib, sys, threading
import psutil
for module in sys.argv[1:]:
    importlib.import_module(module)
from lightning_fastdata import *
import torch

print(threading.enumerate()[1:], psutil.Process().children(), torch.cuda.is_initialized())
"""


def room_of(source: Path) -> str:
    return source.relative_to(PACKAGE).with_suffix("").parts[0]


def module_of(source: Path) -> str:
    parts = (PACKAGE.name, *source.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def imports() -> Iterator[tuple[str, str]]:
    """Yield (room, imported module) of every import anywhere in the package, lazy ones as well."""
    for source in SOURCES:
        if source == PACKAGE / "__init__.py":
            continue  # hands out the public names of all rooms
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import):
                for name in node.names:
                    yield room_of(source), name.name
            elif isinstance(node, ast.ImportFrom):
                yield room_of(source), "." * node.level + (node.module or "")


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function's body, but for its docstring's.

    The list of a public constructor's arguments is as long as torch's and Lightning's make it.
    """
    assert function.end_lineno is not None
    lines = function.end_lineno - function.body[0].lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        assert docstring.end_lineno is not None
        lines -= docstring.end_lineno - docstring.lineno + 1
    return lines


def test_every_room_stands_in_the_street() -> None:
    rooms = {room_of(source) for source in SOURCES} - {"__init__"}

    assert rooms <= set(STREET)


def test_every_room_imports_only_rooms_before_it() -> None:
    for room, module in imports():
        assert not module.startswith("."), f"{room}: write the full name, not {module}"
        assert module != PACKAGE.name, f"{room}: name the room you import from"
        if module.startswith(f"{PACKAGE.name}."):
            source = module.split(".")[1]
            assert STREET.index(source) <= STREET.index(room), f"{room} imports {source}"


def test_only_the_doors_know_lightning() -> None:
    knowing = {room for room, module in imports() if module.split(".")[0] in LIGHTNING}

    assert knowing <= DOORS


@pytest.mark.parametrize("source", SOURCES, ids=module_of)
def test_a_file_has_at_most_300_lines(source: Path) -> None:
    assert len(source.read_text().splitlines()) <= 300


@pytest.mark.parametrize("source", SOURCES, ids=module_of)
def test_a_function_has_at_most_50_lines(source: Path) -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [
        node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, kinds)
    ]

    assert {each.name: lines_of(each) for each in functions if lines_of(each) > 50} == {}


@pytest.mark.parametrize("source", SOURCES, ids=module_of)
def test_every_module_and_public_top_level_name_has_a_docstring(source: Path) -> None:
    tree = ast.parse(source.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    public = [node for node in tree.body if isinstance(node, kinds) and node.name[0] != "_"]

    assert ast.get_docstring(tree)
    assert [node.name for node in public if not ast.get_docstring(node)] == []


def test_only_the_report_and_the_command_line_print() -> None:
    printing = {
        room_of(source)
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Name) and node.id == "print"
    }

    assert printing <= MAY_PRINT


def test_importing_everything_starts_no_thread_no_process_and_no_cuda() -> None:
    modules = [module_of(source) for source in SOURCES if source.stem != "__main__"]

    printed = subprocess.check_output(
        [sys.executable, "-c", IMPORT_AND_LIST_WHAT_STARTED, *modules], text=True
    )

    assert printed.splitlines()[-1] == "[] [] False"


@pytest.mark.parametrize("module", ["lightning_fastdata", "lightning_fastdata.plugin"])
def test_what_every_lightning_user_imports_is_light(module: str) -> None:
    """Lightning imports the entry point of each installed plugin, used or not."""
    heavy = "{'torch', 'numpy', 'lightning', 'pytorch_lightning'}"

    printed = subprocess.check_output(
        [sys.executable, "-c", f"import sys, {module}; print({heavy} & set(sys.modules))"],
        text=True,
    )

    assert printed == "set()\n"
