"""The lab's PostgreSQL starts, hangs, is killed with all its processes, comes back with its data, and leaves nothing behind."""

from pathlib import Path

import psutil
import pytest

from kerege_lab import postgresql as lab
from kerege_lab.postgresql import PostgreSQL, find_postgresql
from kerege_lab.servers import ServerError, ServerMissingError


def test_it_comes_back_with_its_data_after_a_power_cut_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with PostgreSQL(tmp_path / "server") as server:
        name = server.create()
        server.execute("CREATE TABLE shelf AS SELECT 'Abai zholy' AS book", database=name)
        server.execute("CHECKPOINT")
        family = server._family()
        assert len(family) > 1
        server.kill()
        assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family)
        server.start()
        assert server.execute("SELECT book FROM shelf", database=name) == [("Abai zholy",)]
        server.pause()
        server.restart()
        assert server.execute("SELECT book FROM shelf", database=name) == [("Abai zholy",)]
        directory = server.directory
        pid = server.pid
    assert not psutil.pid_exists(pid)
    assert not directory.exists() or directory == tmp_path / "server"


def test_what_it_refuses_is_said(postgresql: PostgreSQL) -> None:
    with pytest.raises(ServerError, match='relation "nothing" does not exist'):
        postgresql.execute("SELECT * FROM nothing")


def test_without_it_the_cure_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "DEBIAN", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerMissingError, match="run scripts/install-servers"):
        find_postgresql()


def test_an_old_one_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest that there is."""
    for version in ("9.6", "14", "15", "17"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "postgres").touch()
    monkeypatch.setattr(lab, "DEBIAN", tmp_path)
    assert find_postgresql() == tmp_path / "17" / "bin" / "postgres"
