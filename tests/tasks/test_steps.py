"""What people see of a step, on a real server and where none answers any more."""

import logging
from contextvars import Context

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from tasks.steps import Watch

LOG = logging.getLogger("test of steps")
NOBODY_THERE = {PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}


def go_on_without_server(watch):
    with temporary_settings(NOBODY_THERE):
        for percent in (60, 70):
            watch("a", f" {percent}%  on")


@flow
def work():
    watch = Watch(["a", "b"], LOG)
    watch("a", " 50%  halfway")
    with get_client(sync_client=True) as client:
        shown = client.request("GET", "/artifacts/{id}", path_params={"id": watch.shown.artifact_id}).json()["data"]
    Context().run(go_on_without_server, watch)  # in the run's own context the client keeps its address
    return shown


@pytest.mark.usefixtures("prefect_server")
def test_a_server_that_goes_away_stops_the_bar_and_not_the_work(caplog):
    caplog.set_level(logging.INFO, LOG.name)
    assert work() == 25.0
    own = [record.getMessage() for record in caplog.records if record.name == LOG.name]
    gone = "the server does not take progress (ConnectError); the bar in the UI stands still, the work goes on"
    assert own == ["a:  50%  halfway", "a:  60%  on", gone, "a:  70%  on"]
