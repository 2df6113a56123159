"""docs/check-evidence.md: each bench that gives it evidence writes its own table there, between two marks."""

import re
from collections.abc import Sequence
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "check-evidence.md"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [list(head), ["---"] * len(head), *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(name: str, text: str) -> None:
    """Puts the text between the marks of this name. Raises ValueError when the page has none."""
    page = PAGE.read_text("utf-8")
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    found = re.search(f"{re.escape(begin)}.*?{re.escape(end)}", page, re.DOTALL)
    if found is None:
        raise ValueError(f"{PAGE.name} has no place for {name}")
    PAGE.write_text(f"{page[: found.start()]}{begin}\n{text}\n{end}{page[found.end() :]}", "utf-8")
