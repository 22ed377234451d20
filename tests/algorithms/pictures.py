"""Makes the pictures of a run's page that the documentation shows, anew: `make pictures`, which needs Debian's Chromium."""

import io
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from algorithms.cli import main

DOCS = Path(__file__).parents[2] / "docs"
CHROMIUM = Path("/usr/bin/chromium")
RUN = ["--steps", "8", "--seed", "1", "--threads", "1", "--eval-questions", "8"]
TREE = 6 * 24 + 2
"""Of step 6 the prompt 3, both as the page counts them."""
PICTURES: dict[str, dict[str, Any]] = {
    "run-page.png": {"viewport": {"width": 1360, "height": 1212}, "color_scheme": "light"},
    "run-page-dark.png": {"viewport": {"width": 1360, "height": 1212}, "color_scheme": "dark"},
    "run-page-phone.png": {"viewport": {"width": 390, "height": 1700}, "color_scheme": "light"},
}


def make(folder: Path) -> None:
    """Trains the run, writes its page, and takes its pictures."""
    run, page = folder / "arpo-seed1", folder / "report.html"
    assert main(["train", *RUN, "--output", str(run)]) == 0
    assert main(["report", str(run), "--output", str(page)]) == 0
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        for name, options in PICTURES.items():
            shown = browser.new_page(**options)
            shown.goto(f"{page.as_uri()}#{TREE}")
            shown.wait_for_selector(".tree")
            taken = Image.open(io.BytesIO(shown.screenshot()))
            taken.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(DOCS / name, optimize=True)
            shown.close()
        browser.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="arpo-pictures-") as made:
        make(Path(made))
