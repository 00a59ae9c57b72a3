"""What `kerege-lab` understands, and its exit statuses."""

from typing import Any

import pytest

from kerege_lab import cli, servers, up
from kerege_lab.bench import agent as bench_agent
from kerege_lab.chaos import command as chaos


@pytest.mark.parametrize(
    "arguments", [[], ["bench"], ["chaos", "--store", "paper"], ["up", "--port", "x"], ["bench", "agent", "--seconds"]]
)
def test_wrong_usage_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: kerege-lab" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--records", "0"], ["--faults", "-1"], ["--agents", "2"]])
def test_a_chaos_that_cannot_be_is_refused_before_anything_starts(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["chaos", *arguments]) == 2
    assert "at least" in capsys.readouterr().err


def test_the_options_reach_the_chaos_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def run(options: Any) -> int:
        seen.append(options)
        return 1

    monkeypatch.setattr(chaos, "run", run)
    assert cli.main(["chaos", "--records", "7", "--faults", "3", "--store", "influx", "--seed", "5", "--json"]) == 1
    (options,) = seen
    assert (options.records, options.faults, options.store, options.seed, options.json, options.keep) == (7, 3, "influx", 5, True, False)


def test_the_options_reach_the_agent_s_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def run(**options: Any) -> int:
        seen.append(options)
        return 0

    monkeypatch.setattr(bench_agent, "run", run)
    assert cli.main(["bench", "agent", "--seconds", "9", "--warm-up", "2", "--json"]) == 0
    assert seen == [{"seconds": 9.0, "warm_up_s": 2.0, "as_json": True}]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (servers.ServerMissingError("no influxd: run scripts/install-servers"), 2),
        (servers.ServerError("broker did not answer"), 1),
        (KeyboardInterrupt(), 1),
    ],
)
def test_what_is_missing_or_breaks_is_said_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, status: int
) -> None:
    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr(up, "run", fail)
    assert cli.main(["up"]) == status
    said = capsys.readouterr().err
    assert said.startswith("kerege-lab up: ")
    assert "Traceback" not in said
