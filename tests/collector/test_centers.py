"""The registry."""

from pathlib import Path

import pytest

from kerege_collector.centers import load
from kerege_collector.mistakes import SettingsError

BAD = sorted((Path(__file__).parent / "bad_settings" / "centers").glob("*.toml"))
EXAMPLE = Path(__file__).parents[2] / "collector" / "centers.example.toml"


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_each_mistake_is_said_with_file_key_and_cure(path: Path) -> None:
    wanted = [f"{path}: {line[2:]}" for line in path.read_text().splitlines() if line.startswith("# ")]
    with pytest.raises(SettingsError) as caught:
        load(path)
    assert sorted(caught.value.mistakes) == sorted(wanted)


def test_the_example_is_good() -> None:
    registry = load(EXAMPLE)
    assert len(registry) >= 5
    assert registry["ulan-bozanbay"].name == "Бозанбай ауылдық кітапханасы"
    assert registry["ulan-bozanbay"].link_kind == "geo"


def test_what_the_file_does_not_say_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / "centers.toml"
    path.write_text('[[center]]\nid = "ulan"\n')
    center = load(path)["ulan"]
    assert (center.name, center.district, center.provider, center.link_kind) == ("ulan", None, None, None)


def test_an_empty_file_is_an_empty_registry(tmp_path: Path) -> None:
    path = tmp_path / "centers.toml"
    path.write_text("# nobody yet\n")
    assert load(path) == {}


def test_an_absent_file_is_an_empty_registry_only_where_it_may_be(tmp_path: Path) -> None:
    assert load(tmp_path / "gone.toml", may_be_absent=True) == {}
    with pytest.raises(SettingsError, match=r"centers\.example\.toml"):
        load(tmp_path / "gone.toml")
