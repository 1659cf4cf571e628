"""Open files that forked workers inherit are read right."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from sample_sets import Numbers, loader_of

RECORD = 8
LENGTH = 2000


class Records(Numbers):
    """Seeks and reads in one file that was opened before the fork."""

    def __init__(self, file: Any) -> None:
        super().__init__(LENGTH)
        self.file = file

    def __getitem__(self, index: int) -> int:
        self.file.seek(index * RECORD)
        return int.from_bytes(self.file.read(RECORD), "little")


class Members(Numbers):
    def __init__(self, archive: zipfile.ZipFile) -> None:
        super().__init__(200)
        self.archive = archive

    def __getitem__(self, index: int) -> int:
        return int(self.archive.read(str(index)))


@pytest.mark.parametrize("buffering", [0, 4096])
@pytest.mark.parametrize("engine", ["ring", "torch"])
def test_workers_read_an_open_file_as_if_each_had_opened_it(
    tmp_path: Path, engine: str, buffering: int
) -> None:
    path = tmp_path / "records"
    path.write_bytes(b"".join(index.to_bytes(RECORD, "little") for index in range(LENGTH)))

    with open(path, "rb", buffering=buffering) as file:
        loader = loader_of(Records(file), 10, engine=engine, num_workers=2)
        read = torch.cat(list(loader))
        loader.close()

    assert torch.equal(read, torch.arange(LENGTH))


def test_workers_read_an_open_archive(tmp_path: Path) -> None:
    path = tmp_path / "members.zip"
    with zipfile.ZipFile(path, "w") as written:
        for index in range(200):
            written.writestr(str(index), str(index))

    with zipfile.ZipFile(path) as archive:
        loader = loader_of(Members(archive), 4, num_workers=2)
        read = torch.cat(list(loader))
        loader.close()

    assert torch.equal(read, torch.arange(200))
