"""A real headless Chromium with its driver, as Debian packages them, and the page of a run to open in it."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_INSTALL = "apt-get install chromium chromium-driver; pip install selenium"


class Browser:
    """A window, what its console said, and where it sent requests."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, *, width: int = 1280, height: int = 1000) -> None:
        self.driver.set_window_size(width, height)
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(page.resolve().as_uri())

    def errors(self) -> list[dict[str, Any]]:
        """What the console said, any level."""
        return self.driver.get_log("browser")

    def addresses(self) -> list[str]:
        """Where requests went."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
        return [params["request"]["url"] for params in sent]

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def text(self, name: str) -> str:
        """The text of an element, shown or not."""
        return self.run("return document.getElementById(arguments[0]).textContent", name)

    def choose(self, name: str, value: str) -> None:
        from selenium.webdriver.common.by import By
        from selenium.webdriver.support.ui import Select

        # By its place: a value may hold what no selector can.
        options = "return [...document.getElementById(arguments[0]).options].map((one) => one.value)"
        Select(self.driver.find_element(By.ID, name)).select_by_index(self.run(options, name).index(value))

    def press(self, key: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(key).perform()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        webdriver = None
    if chromium is None or driver is None or webdriver is None:
        # `make test-browser` installs what is missing, and then nothing may be skipped.
        missing = f"no browser to test with: {_INSTALL}"
        pytest.fail(missing) if os.environ.get("LAPWING_BROWSER") == "required" else pytest.skip(missing)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    window = webdriver.Chrome(options=options, service=Service(driver))
    window.set_script_timeout(60)
    yield Browser(window)
    window.quit()


@pytest.fixture(scope="session")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the default recipe: the finished one that LAPWING_RUN names, or one of a few iterations."""
    given = os.environ.get("LAPWING_RUN")
    if given:
        return Path(given)
    import lapwing

    folder = tmp_path_factory.mktemp("browser") / "run"
    few = ["iterations=6", "checkpoint_every=3", "evaluation.every=3", "warm_start.iterations=20"]
    small = ["evaluation.episodes=60", "evaluation.development_episodes=40", "evaluation.replay_groups=2"]
    return lapwing.train("frozen_lake_tiny", run=folder, overrides=[*few, *small]).path
