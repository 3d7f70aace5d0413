"""Finds the registries that ``rpc.services`` names: ordinary modules of the user's."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from secure_net.config import Configuration
from secure_net.errors import ConfigurationError
from secure_net.rpc.registry import Registry


def load_registries(configuration: Configuration) -> Registry:
    """Import what ``rpc.services`` names, and put it together. Empty where there is no [rpc].

    Modules beside the configuration are found, as are installed ones. Raises `ConfigurationError` naming
    the key when one cannot be imported, whatever it raises, or is no registry.
    """
    if configuration.rpc is None:
        return Registry()
    _look_in(configuration.base)
    return Registry.merged(
        _load(written, f"rpc.services[{index}]") for index, written in enumerate(configuration.rpc.services)
    )


def _look_in(base: Path) -> None:
    # Last: a json.py that rests there must not take the place of the standard library's.
    if str(base) not in sys.path:
        sys.path.append(str(base))


def _load(written: str, path: str) -> Registry:
    name, _, attribute = written.partition(":")
    try:
        module = importlib.import_module(name)
    except ConfigurationError:
        raise  # a registry's own word on a method that cannot be registered
    except Exception as error:
        problem = f"cannot import {name}: {type(error).__name__}: {error}"
        raise ConfigurationError(path, problem, "correct the module, or the name") from error
    registry = vars(module).get(attribute)
    if not isinstance(registry, Registry):
        found = "no such attribute" if registry is None else f"its type is {type(registry).__name__}"
        raise ConfigurationError(path, f"{written} is no Registry: {found}", "name a secure_net.Registry")
    return registry
