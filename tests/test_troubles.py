"""Troubles that do not end a run: said once, counted always."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from fctfg.troubles import Troubles


def test_a_trouble_is_said_once_for_each_subject_and_counted_always(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    troubles = Troubles()
    with ThreadPoolExecutor(4) as pool:
        for number in range(200):
            pool.submit(troubles.meet, "clips replaced", f"clip {number % 2} is damaged", about=str(number % 2))
    troubles.meet("rows not written", "metrics.csv: no space", times=3)
    assert sorted(caplog.messages) == ["clip 0 is damaged", "clip 1 is damaged", "metrics.csv: no space"]
    assert troubles.counts == {"clips replaced": 200, "rows not written": 3}
    caplog.clear()
    monkeypatch.setenv("RANK", "2")
    troubles.conclude()
    assert caplog.messages == ["process 2: Troubles since the start: clips replaced: 200; rows not written: 3"]


def test_a_run_without_troubles_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    Troubles().conclude()
    assert not caplog.messages
