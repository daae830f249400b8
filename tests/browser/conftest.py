"""A real headless Chromium, driven by Playwright; the tests are skipped, with the reason, where it is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip("no Chromium; sudo tests/browser/start.sh installs it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Root has no other way to start it, and what it opens here are files of these tests.
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()
