"""A browser without a window, and what it saw."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LIMIT_S = 60  # guess: a page takes one or two; a loaded machine more
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # root in a container has no other way
    "--disable-gpu",
    "--disable-dev-shm-usage",  # nothing of it in /dev/shm
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-crash-reporter",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # whatever it asks for fails, and is then an error
    "--virtual-time-budget=3000",
    "--enable-logging=stderr",
)


def browser() -> str | None:
    """Return the browser's path; ``None`` where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def browse(page: Path, *arguments: str) -> tuple[str, list[str]]:
    """Open ``page``; return what was printed, and the messages of the page's console."""
    path = browser()
    assert path is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        command = [path, *ARGUMENTS, f"--user-data-dir={home}", *arguments, page.as_uri()]
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "HOME": home},
        ) as process:
            try:
                printed, said = process.communicate(timeout=LIMIT_S)
            finally:
                # Its helpers too: they would hold the pipes, and the folder, for a moment longer.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, said
    return printed, re.findall(r"CONSOLE.*", said)


def photograph(page: Path, picture: Path, *, width: int, height: int) -> list[str]:
    """Write what ``page`` looks like; return the messages of the page's console."""
    _, messages = browse(page, f"--window-size={width},{height}", f"--screenshot={picture}")
    return messages


def framed(pages: Sequence[tuple[str, int]]) -> str:
    """Put pages into frames of these widths, and write how wide and high each wants to be.

    A headless window is never narrower than 500 pixels, a frame is.
    """
    frames = "".join(
        f'<iframe width="{width}" height="800" style="border:0" srcdoc="{_quoted(page)}"></iframe>'
        for page, width in pages
    )
    return f"""<!doctype html><meta charset="utf-8"><body style="margin:0">{frames}<pre></pre>
<script>onload = () => {{
  document.querySelector("pre").textContent = [...document.querySelectorAll("iframe")].map(
    frame => {{
      const root = frame.contentDocument.documentElement;
      return `${{frame.width}} ${{root.scrollWidth}} ${{root.scrollHeight}}`;
    }}).join("\\n");
}}</script>"""


def _quoted(page: str) -> str:
    return page.replace("&", "&amp;").replace('"', "&quot;")
