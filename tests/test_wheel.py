"""The wheel, installed where our source is not: what it holds and does to others' scripts."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

PROJECT = Path(__file__).parents[1]

# It trains as Lightning's first example does, and knows nothing of this package.
SOMEBODYS_SCRIPT = """
import sys
import torch
from {namespace} import LightningModule, Trainer

class Model(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, batch_index):
        return self.layer(batch).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False).fit(
    Model(), torch.utils.data.DataLoader(torch.zeros(64, 4), batch_size=8)
)
print("IMPORTED", *(name for name in sys.modules if name.split(".")[0] == "lightning_fastdata"))
print("LEFT", *__import__("os").listdir())
"""
LIST_ENTRY_POINTS = """
from importlib.metadata import entry_points
for group in ("lightning.pytorch.callbacks_factory", "pytorch_lightning.callbacks_factory"):
    for point in entry_points(group=group):
        if point.name == "lightning_fastdata":
            print(group, point.value, point.load().__module__)
import lightning_fastdata
print(lightning_fastdata.__file__)
"""


class Installed(NamedTuple):
    """A fresh environment that holds the wheel and borrows all other packages from this one."""

    python: Path
    packages: Path

    def run(self, *arguments: str, cwd: Path, profile: bool = False) -> str:
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in {"PYTHONPATH", "LIGHTNING_FASTDATA_PROFILE"}
        }
        if profile:
            environment["LIGHTNING_FASTDATA_PROFILE"] = "1"
        process = subprocess.run(
            [self.python, *arguments],
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.returncode == 0, process.stdout
        return process.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    built = subprocess.run([*build, str(PROJECT)], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    root = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(root, symlinks=True)
    python = root / "bin" / "python"
    where = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.check_output(where, text=True).strip())
    # A path in a .pth file is searched, but the .pth files in it are not obeyed: all packages of
    # this environment are borrowed, and an editable install of ours, which is such a file, is not.
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "borrowed.pth").write_text("\n".join(sorted(borrowed)) + "\n")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", str(packages), str(wheel)], check=True)
    return Installed(python, packages)


def test_the_wheel_holds_the_package_its_types_its_licence_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()

    assert {name.split("/")[0].split("-")[0] for name in names} == {"lightning_fastdata"}
    assert "lightning_fastdata/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if "test" in name or name.endswith((".ipynb", ".pyc"))]


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {path for path in (PROJECT / "lightning_fastdata").rglob("*") if path.is_file()}

    expected = {str(path.relative_to(PROJECT)) for path in sources if path.suffix != ".pyc"}

    assert packed == expected


def test_both_lightning_packages_find_the_plugin_of_the_wheel(
    installed: Installed, tmp_path: Path
) -> None:
    *found, origin = installed.run("-c", LIST_ENTRY_POINTS, cwd=tmp_path).splitlines()

    target = "lightning_fastdata.plugin:callbacks_factory lightning_fastdata.plugin"
    assert found == [
        f"lightning.pytorch.callbacks_factory {target}",
        f"pytorch_lightning.callbacks_factory {target}",
    ]
    assert Path(origin).is_relative_to(installed.packages)


@pytest.mark.parametrize(
    "namespace", ["lightning", pytest.param("pytorch_lightning", marks=pytest.mark.slow)]
)
def test_the_variable_adds_a_stall_report_to_somebodys_script(
    namespace: str, installed: Installed, tmp_path: Path
) -> None:
    script = SOMEBODYS_SCRIPT.format(namespace=namespace)

    printed = installed.run("-c", script, cwd=tmp_path, profile=True)

    assert "Where a training step goes (" in printed
    report = re.search(
        r"^Stall report: (.+)report\.html \(and summary\.json", printed, re.MULTILINE
    )
    assert report, printed
    assert json.loads((tmp_path / report[1] / "summary.json").read_text())
    assert (tmp_path / report[1] / "report.html").read_text().startswith("<!")


@pytest.mark.parametrize(
    "namespace", ["lightning", pytest.param("pytorch_lightning", marks=pytest.mark.slow)]
)
def test_without_the_variable_nothing_of_ours_is_imported_printed_or_written(
    namespace: str, installed: Installed, tmp_path: Path
) -> None:
    script = SOMEBODYS_SCRIPT.format(namespace=namespace)

    printed = installed.run("-c", script, cwd=tmp_path)

    before, imported = printed.split("IMPORTED")
    names, left = imported.split("LEFT")
    assert names.split() == ["lightning_fastdata", "lightning_fastdata.plugin"]
    assert not re.search(r"\bstall|fastdata", before, re.IGNORECASE)
    assert left.split() == []
