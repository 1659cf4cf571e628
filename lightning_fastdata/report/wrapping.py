"""Long sentences over several lines."""

import textwrap

WIDTH = 100


def hanging(start: str, text: str, indent: int = 2) -> list[str]:
    """Break ``start`` and ``text`` into lines; all but the first are set in.

    Args:
        start: Stands before the first line.
        text: The sentence. A figure stays with its percent sign.
        indent: Spaces before the other lines.
    """
    return [
        line.replace("\N{NO-BREAK SPACE}%", " %")
        for line in textwrap.wrap(
            text.replace(" %", "\N{NO-BREAK SPACE}%"),
            WIDTH,
            initial_indent=start,
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]
