"""docs/report.html and its two pictures, from a run: python docs/picture.py RUN_DIR.

The report is rendered by this checkout; the pictures show its first screen and the first chart under faults, in light, as
a real Chromium draws them (the distribution's, apt-get install chromium). They are what a reader of the repository sees
first, so nothing of the machine that made them may stand in them: the script refuses a report that names its host, its
user's home or the run's folder.
"""

import shutil
import socket
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from sseproof.reports.render import render_report

HERE = Path(__file__).resolve().parent
WIDTH, HEIGHT = 1_000, 600
FIRST_CHART = """
() => {
  const section = document.querySelector("#faults");
  const top = section.getBoundingClientRect().top + scrollY;
  return {x: 0, y: top - 16, width: innerWidth,
          height: section.querySelector("figcaption").getBoundingClientRect().bottom + scrollY - top + 24};
}
"""
LARGEST_REPORT_BYTES = 400_000
LARGEST_PICTURE_BYTES = 150_000


def main(directory: Path) -> None:
    """Writes the three files. Exits with a sentence when one is too large or tells something of this machine."""
    content = render_report(directory)
    for secret in (socket.gethostname(), str(Path.home()), str(directory.resolve()), str(HERE.parent)):
        if len(secret) > 1 and secret.encode() in content:
            sys.exit(f"The report names {secret}: make the run in a folder of its own, without --out.")
    if len(content) > LARGEST_REPORT_BYTES:
        sys.exit(f"The report has {len(content):,} bytes, over {LARGEST_REPORT_BYTES:,}.")
    report = HERE / "report.html"
    report.write_bytes(content)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(report.as_uri())
        for name, clip in (("report.png", None), ("report-faults.png", page.evaluate(FIRST_CHART))):
            path = HERE / name
            path.write_bytes(page.screenshot(full_page=clip is not None, clip=clip))
            if path.stat().st_size > LARGEST_PICTURE_BYTES:
                sys.exit(f"{name} has {path.stat().st_size:,} bytes, over {LARGEST_PICTURE_BYTES:,}.")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
