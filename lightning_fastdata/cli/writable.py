"""Finding out that a file cannot be written before minutes go into what it is to hold."""

from pathlib import Path

from lightning_fastdata.errors import SettingsError


def check_writable(argument: str, path: Path) -> None:
    """Make the folder of a file, and try to write there; an older file stays as it is.

    Args:
        argument: Named in the error, such as ``--json``.
        path: The file.

    Raises:
        SettingsError: It cannot be written.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        trial = path.with_name(path.name + ".part")
        trial.touch()
        trial.unlink()
    except OSError as error:
        or_else = ", or - for standard output" if argument == "--json" else ""
        raise SettingsError(
            f"{argument} {path} cannot be written ({error.strerror}), wanted a file. "
            f"Pass another one{or_else}."
        ) from error
