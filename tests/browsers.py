"""Headless chromium for tests, with Debian's driver. Nothing is downloaded.

Selenium looks for a driver on the internet unless it is told where one is;
so it is told, and that it is offline. Chromium's sandbox does not work for root, which a
container's user is.
"""

import importlib.util
import os
import shutil

BROWSER, DRIVER = "chromium", "chromedriver"


def why_no_browser():
    """What is missing, or an empty string."""
    missing = [name for name in (BROWSER, DRIVER) if not shutil.which(name)]
    if importlib.util.find_spec("selenium") is None:
        missing.append("the package selenium")
    return f"not installed: {', '.join(missing)}" if missing else ""


def settle_driver():
    """Tell selenium where the driver is. Before the first browser is started."""
    os.environ["SE_OFFLINE"] = "true"
    os.environ["SE_AVOID_STATS"] = "true"
    os.environ["SE_CHROMEDRIVER"] = shutil.which(DRIVER) or DRIVER


def settle_options(options):
    """What chromium needs here, besides what Django asks for. Returns the options."""
    options.binary_location = shutil.which(BROWSER) or BROWSER
    for argument in ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    return options


def use_chromium():
    """Have Django's `SeleniumTestCase` start the browser like that, without a window."""
    from django.test.selenium import SeleniumTestCaseBase

    settle_driver()
    create_options = SeleniumTestCaseBase.create_options
    SeleniumTestCaseBase.create_options = lambda cls: settle_options(create_options(cls))
    SeleniumTestCaseBase.browsers = ["chrome"]
    SeleniumTestCaseBase.headless = True
