"""Finding the user's registries."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from secure_net import config
from secure_net.daemon.registries import load_registries
from secure_net.errors import ConfigurationError
from secure_net.rpc.registry import Registry

GOOD = """
from secure_net.rpc.registry import Registry
registry = Registry()
number = 1
@registry.method("{name}")
def call(value: int) -> int:
    return value
"""


@pytest.fixture(autouse=True)
def imports() -> Iterator[None]:
    """Leave the import system as it was."""
    path, modules = sys.path.copy(), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def load(tmp_path: Path, *services: str) -> Registry:
    listed = ", ".join(f'"{service}"' for service in services)
    return load_registries(config.parse(f"[rpc]\nservices = [{listed}]", tmp_path / "secure-net.toml", {}))


def test_modules_beside_the_configuration_are_found_and_merged(tmp_path: Path) -> None:
    (tmp_path / "house_one.py").write_text(GOOD.format(name="one.call"))
    (tmp_path / "house_two.py").write_text(GOOD.format(name="two.call"))
    assert set(load(tmp_path, "house_one:registry", "house_two:registry").methods) == {"one.call", "two.call"}


def test_a_module_there_takes_nobody_s_place(tmp_path: Path) -> None:
    (tmp_path / "house_three.py").write_text("import colorsys\n" + GOOD.format(name="three.call"))
    (tmp_path / "colorsys.py").write_text("raise ZeroDivisionError")  # as the standard library's is called
    sys.modules.pop("colorsys", None)
    assert set(load(tmp_path, "house_three:registry").methods) == {"three.call"}


def test_without_rpc_there_is_nothing(tmp_path: Path) -> None:
    assert not load_registries(config.parse("", tmp_path / "secure-net.toml", {})).methods


@pytest.mark.parametrize(
    ("service", "problem"),
    [
        ("house_absent:registry", "cannot import house_absent: ModuleNotFoundError"),
        ("house_broken:registry", "cannot import house_broken: ZeroDivisionError: division by zero"),
        ("house_syntax:registry", "cannot import house_syntax: SyntaxError"),
        ("house_good:missing", "is no Registry: no such attribute"),
        ("house_good:number", "is no Registry: its type is int"),
    ],
)
def test_what_cannot_be_had_names_the_key(tmp_path: Path, service: str, problem: str) -> None:
    (tmp_path / "house_good.py").write_text(GOOD.format(name="a.b"))
    (tmp_path / "house_broken.py").write_text("1 / 0")
    (tmp_path / "house_syntax.py").write_text("def")
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, "house_good:registry", service)
    assert caught.value.path == "rpc.services[1]"
    assert problem in caught.value.problem


def test_what_a_registry_says_itself_is_kept(tmp_path: Path) -> None:
    (tmp_path / "house_wrong.py").write_text(GOOD.format(name="_private"))
    with pytest.raises(ConfigurationError, match="not a method's name"):
        load(tmp_path, "house_wrong:registry")
