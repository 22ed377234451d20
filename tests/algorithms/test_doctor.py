"""`arpo doctor` says what the sandbox would do here, and its status agrees with the sandbox."""

import dataclasses

import pytest

from algorithms.cli import doctor
from algorithms.cli import main as arpo
from arpo_envs.tools.python.server.isolation import Report, probe
from arpo_envs.tools.python.server.isolation.report import FILTER, LANDLOCK, OWN_MOUNTS, USER_NAMESPACE, from_rows


@pytest.fixture(scope="module")
def report() -> Report:
    return probe()


def without(report: Report, *names: str) -> Report:
    gone = {"active": False, "detail": "not here. Do this."}
    rows = [dataclasses.replace(row, **gone) if row.name in names else row for row in report.rows()]
    return from_rows(rows, report.layers.landlock)


def test_it_shows_every_layer_and_every_package(capsys, monkeypatch, report):
    monkeypatch.setenv("COLUMNS", "160")
    status = arpo(["doctor"])
    shown = capsys.readouterr().out
    assert status == (1 if report.missing_minimum() or report.unkept() else 0)
    for row in report.rows():
        assert f"{'✓' if row.active else '✗'}  {row.name}" in shown
    for name in doctor.EXTRAS:
        assert name in shown


def test_it_says_what_is_missing_and_what_to_do(capsys, monkeypatch, report):
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(doctor, "probe_isolation", lambda: without(report, FILTER))
    assert arpo(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "cannot start here" in shown
    assert "not here. Do this." in shown
    assert "unsafe=True" in shown


def test_it_says_what_is_weaker_without_namespaces(capsys, monkeypatch, report):
    if report.missing_minimum() or not report.layers.landlock:
        pytest.skip("sessions cannot start without namespaces on this machine")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(doctor, "probe_isolation", lambda: without(report, USER_NAMESPACE))
    assert arpo(["doctor"]) == 0
    shown = capsys.readouterr().out
    for line in doctor.WEAKER:
        assert line in shown


def test_without_landlock_and_mounts_per_session_it_fails_and_says_what_is_not_kept(capsys, monkeypatch, report):
    if not report.layers.namespaces:
        pytest.skip("sessions cannot start without Landlock on this machine")
    monkeypatch.setenv("COLUMNS", "200")
    lacking = without(report, LANDLOCK, OWN_MOUNTS)
    monkeypatch.setattr(doctor, "probe_isolation", lambda: lacking)
    assert arpo(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "not every promise is kept here" in shown
    assert lacking.unkept()[0] in shown
    assert "cannot start" not in shown


def test_without_namespaces_and_landlock_it_does_not_start(monkeypatch, capsys, report):
    monkeypatch.setattr(doctor, "probe_isolation", lambda: without(report, USER_NAMESPACE, LANDLOCK))
    assert arpo(["doctor"]) == 1
    assert "cannot start" in capsys.readouterr().out


def test_a_missing_package_names_its_extra(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(doctor, "EXTRAS", {"no-such-package": ("train", "does nothing")})
    arpo(["doctor"])
    assert "pip install 'arpo-envs[train]'" in capsys.readouterr().out
