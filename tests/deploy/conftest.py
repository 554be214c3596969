"""The tools that check `deploy/`, set up once. Without them a test is skipped, in CI it fails."""

from __future__ import annotations

import os

import pytest

from tools import deploy_tools


@pytest.fixture(scope="session")
def tools() -> deploy_tools.Tools:
    try:
        return deploy_tools.tools()
    except deploy_tools.SetupError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
