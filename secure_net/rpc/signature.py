"""What a method takes and gives, read once from its type hints and then held to.

==================================== ======================================= ========================
hint                                 accepts                                 shown as
==================================== ======================================= ========================
`int`, `bool`, `str`, `bytes`        exactly that                            int, boolean, string, base64
`float`                              a double, or an int                     double
`datetime.datetime`                  a time, aware, in UTC                   dateTime.iso8601
`list[T]`, `Sequence[T]`             an array of T                           array
`dict[str, T]`, `Mapping[str, T]`    a struct whose members are T            struct
`None`, `T | None`                   nil, where the registry allows it       nil, T
`A | B`                              the first that fits                     mixed
`Any`, `object`                      whatever XML-RPC can carry              mixed
==================================== ======================================= ========================

A value that a method returns may be a tuple as well (``tuple[...]``: array).
"""

from __future__ import annotations

import collections.abc
import datetime
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

from secure_net.errors import ConfigurationError

Convert = Callable[[Any], Any]


class WrongParametersError(Exception):
    """Number or types of the parameters do not fit."""


class Kind:
    """What one hint stands for. `convert` gives the argument, or raises `WrongParametersError`.

    `exact`: values of exactly this type pass as they are; None where a value must be looked into.
    """

    __slots__ = ("convert", "exact", "name")

    def __init__(self, name: str, convert: Convert, exact: type | None = None) -> None:
        self.name, self.convert, self.exact = name, convert, exact


def _exactly(expected: type) -> Convert:
    def convert(value: Any) -> Any:
        if type(value) is not expected:  # a bool is no int here
            raise WrongParametersError
        return value

    return convert


def _to_float(value: Any) -> float:
    if type(value) is not float and type(value) is not int:
        raise WrongParametersError
    return float(value)


def _whatever(value: Any) -> Any:
    return value


def _array_of(item: Kind) -> Kind:
    def convert(value: Any) -> Any:
        if type(value) is not list:
            raise WrongParametersError
        return [item.convert(element) for element in value]

    return Kind("array", convert)


def _struct_of(item: Kind) -> Kind:
    def convert(value: Any) -> Any:
        if type(value) is not dict:
            raise WrongParametersError
        return {name: item.convert(element) for name, element in value.items()}

    return Kind("struct", convert)


def _one_of(kinds: list[Kind]) -> Kind:
    def convert(value: Any) -> Any:
        for kind in kinds:
            try:
                return kind.convert(value)
            except WrongParametersError:
                continue
        raise WrongParametersError

    names = {kind.name for kind in kinds if kind is not NIL}
    return Kind(names.pop() if len(names) == 1 else "mixed", convert)


ANYTHING = Kind("mixed", _whatever)
NIL = Kind("nil", _exactly(type(None)), type(None))
ARRAY = Kind("array", _exactly(list), list)
STRING = Kind("string", _exactly(str), str)
STRUCT = Kind("struct", _exactly(dict), dict)
_KINDS: dict[Any, Kind] = {
    Any: ANYTHING,
    object: ANYTHING,
    None: NIL,
    type(None): NIL,
    bool: Kind("boolean", _exactly(bool), bool),
    bytes: Kind("base64", _exactly(bytes), bytes),
    datetime.datetime: Kind("dateTime.iso8601", _exactly(datetime.datetime), datetime.datetime),
    dict: STRUCT,
    float: Kind("double", _to_float, float),
    int: Kind("int", _exactly(int), int),
    list: ARRAY,
    str: STRING,
}
_ARRAYS = (list, collections.abc.Sequence)
_STRUCTS = (dict, collections.abc.Mapping)


def _kind_of(hint: Any) -> Kind | None:
    """None where XML-RPC has no such type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is None:
        return _KINDS.get(hint) if isinstance(hint, collections.abc.Hashable) else None
    inner = [_kind_of(argument) for argument in arguments]
    kinds = [kind for kind in inner if kind is not None]
    if len(kinds) != len(inner):
        return None
    if origin in (typing.Union, types.UnionType):
        return _one_of(kinds)
    if origin in _ARRAYS:
        return ARRAY if kinds[0] is ANYTHING else _array_of(kinds[0])
    if origin in _STRUCTS and arguments[0] is str:
        return STRUCT if kinds[1] is ANYTHING else _struct_of(kinds[1])
    return None


def _result_kind_of(hint: Any) -> Kind | None:
    """As `_kind_of`; a result may be a tuple too."""
    if hint is tuple:
        return ARRAY
    if typing.get_origin(hint) is tuple:
        items = [argument for argument in typing.get_args(hint) if argument is not ...]
        return ARRAY if all(_result_kind_of(item) is not None for item in items) else None
    return _kind_of(hint)


def _mentions_none(hint: Any) -> bool:
    return hint in (None, type(None)) or any(map(_mentions_none, typing.get_args(hint)))


class Signature:
    """The parameters of one method, in order, and what it returns.

    `wants_caller`: its first parameter is annotated with the `caller` type, and is none of these.
    """

    __slots__ = ("_converts", "_exact", "_least", "_most", "names", "result", "wants_caller")

    def __init__(self, parameters: list[Kind], least: int, result: Kind, wants_caller: bool = False) -> None:
        self.names = tuple(kind.name for kind in parameters)
        self.result = result.name
        self.wants_caller = wants_caller
        self._converts = tuple(kind.convert for kind in parameters)
        self._least, self._most = least, len(parameters)
        exact = tuple(kind.exact for kind in parameters)
        self._exact = exact if None not in exact else None

    def arguments(self, params: list[Any]) -> list[Any]:
        """`params` as the method takes them. Raises `WrongParametersError`."""
        if tuple(map(type, params)) == self._exact:
            return params
        if not self._least <= len(params) <= self._most:
            raise WrongParametersError
        return [convert(value) for convert, value in zip(self._converts, params, strict=False)]

    def rows(self) -> list[list[str]]:
        """As `system.methodSignature` has it: result and parameters, a row for each allowed number."""
        return [[self.result, *self.names[:count]] for count in range(self._least, self._most + 1)]


def signature_of(function: Callable[..., Any], caller: type, *, allow_nil: bool, where: str) -> Signature:
    """Read `function`'s hints. Raises `ConfigurationError`, with `where` as its path, if they do not do."""
    try:
        hints = typing.get_type_hints(function)
    except NameError as error:
        cure = "import it where the module is imported too, not only under TYPE_CHECKING"
        raise ConfigurationError(
            where, f"a type hint names {error.name!r}, which is unknown", cure
        ) from error
    parameters = list(inspect.signature(function).parameters.values())
    wants_caller = bool(parameters) and hints.get(parameters[0].name) is caller
    kinds, least = [], 0
    for parameter in parameters[wants_caller:]:
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            raise ConfigurationError(
                where, f"the parameter {parameter.name!r} is not positional", "XML-RPC knows no names"
            )
        kinds.append(_kind(hints, parameter.name, _kind_of, allow_nil, where))
        least += parameter.default is parameter.empty
    return Signature(kinds, least, _kind(hints, "return", _result_kind_of, allow_nil, where), wants_caller)


def _kind(
    hints: dict[str, Any], name: str, kind_of: Callable[[Any], Kind | None], allow_nil: bool, where: str
) -> Kind:
    if name not in hints:
        raise ConfigurationError(where, f"{name!r} has no type hint", "annotate it; Any takes everything")
    kind = kind_of(hints[name])
    if kind is None:
        cure = "use int, bool, str, float, bytes, datetime.datetime, list[T], dict[str, T], T | None or Any"
        raise ConfigurationError(where, f"XML-RPC cannot carry the type of {name!r}", cure)
    if not allow_nil and _mentions_none(hints[name]):
        raise ConfigurationError(
            where, f"{name!r} may be None, which this registry does not allow", "Registry(allow_nil=True)"
        )
    return kind
