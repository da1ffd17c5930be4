"""Fixtures of more than one test module."""

from collections.abc import Iterator

import pytest
from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A real Prefect server on a database of its own; flows called meanwhile report to it. Some ten seconds, once."""
    with prefect_test_harness(server_startup_timeout=120):
        yield
