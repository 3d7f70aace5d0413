"""The whitelist: a function is callable from outside when it stands here, and in no other way.

::

    registry = Registry()

    @registry.method("math.double")
    @inline
    def double(value: int) -> int:
        \"\"\"Twice the value.\"\"\"
        return 2 * value

How a method runs is said by what it is: ``async def`` is awaited, a plain ``def`` runs on the thread pool,
and one marked `inline` runs on the event loop, having promised to be done within microseconds.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from secure_net.errors import ConfigurationError
from secure_net.rpc.signature import Signature, signature_of

if TYPE_CHECKING:
    from secure_net.identity.policy import Principal

F = TypeVar("F", bound=Callable[..., Any])

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z][A-Za-z0-9_]*)*")
_NAME_BYTES = 255
# Marks that decorators leave on a function, in its __dict__.
_INLINE, _REGISTERED, _EXPOSED = "secure_net_inline", "secure_net_registered", "secure_net_exposed"


class Manner(enum.Enum):
    """How a method runs."""

    INLINE = enum.auto()
    AWAITED = enum.auto()
    POOLED = enum.auto()
    SYSTEM = enum.auto()  # the dispatcher's own, inline
    MULTICALL = enum.auto()


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """Who calls, and until when. A method that wants it takes it as its first parameter.

    `deadline` is on the daemon's monotonic clock; `request_id` stands in the log beside what goes wrong;
    `peer` is the address the call came from.
    """

    principal: Principal
    deadline: float
    request_id: str
    peer: str


@dataclasses.dataclass(frozen=True, slots=True)
class Method:
    """One registered method. `resource` is the R of the scope ``rpc:call:R`` that it needs, None for none."""

    name: str
    function: Callable[..., Any]
    manner: Manner
    signature: Signature
    help: str
    resource: str | None
    deadline_seconds: float | None = None
    concurrency: int | None = None
    audited: bool = False

    def permits(self, principal: Principal) -> bool:
        """Whether `principal` may call it."""
        return self.resource is None or principal.permits("rpc", "call", self.resource)


@dataclasses.dataclass(frozen=True, slots=True)
class _Options:
    scope: str | None
    deadline_seconds: float | None
    concurrency: int | None
    audited: bool


def inline(function: F) -> F:
    """Promise that `function` is done within microseconds and never blocks: it runs on the event loop.

    Stands below ``@registry.method``, next to the function.
    """
    if _REGISTERED in function.__dict__:
        raise ConfigurationError(
            function.__qualname__, "is marked inline after it was registered", "put @inline below @method"
        )
    function.__dict__[_INLINE] = True
    return function


@overload
def exposed(function: F, /) -> F: ...
@overload
def exposed(
    *,
    scope: str | None = None,
    deadline_seconds: float | None = None,
    concurrency: int | None = None,
    audited: bool = False,
) -> Callable[[F], F]: ...
def exposed(
    function: Callable[..., Any] | None = None,
    /,
    *,
    scope: str | None = None,
    deadline_seconds: float | None = None,
    concurrency: int | None = None,
    audited: bool = False,
) -> Any:
    """Mark a method of a class for `Registry.expose`; nothing unmarked is reachable.

    ``@exposed``, or ``@exposed(…)`` with what `Registry.method` takes.
    """
    options = _Options(scope, deadline_seconds, concurrency, audited)

    def mark(marked: F) -> F:
        marked.__dict__[_EXPOSED] = options
        return marked

    return mark if function is None else mark(function)


class Registry:
    """The methods that a server offers.

    `allow_nil` and `allow_i8` let the extensions ``<nil/>`` and ``<i8>`` through, both ways.
    """

    def __init__(self, *, allow_nil: bool = True, allow_i8: bool = True) -> None:
        self.allow_nil, self.allow_i8 = allow_nil, allow_i8
        self._methods: dict[str, Method] = {}

    @classmethod
    def merged(cls, registries: Iterable[Registry]) -> Registry:
        """One registry with the methods of all. Raises `ConfigurationError` where two do not go together."""
        together: Registry | None = None
        for registry in registries:
            if together is None:
                together = cls(allow_nil=registry.allow_nil, allow_i8=registry.allow_i8)
            if (registry.allow_nil, registry.allow_i8) != (together.allow_nil, together.allow_i8):
                problem = "the registries differ in allow_nil or allow_i8"
                raise ConfigurationError("rpc.services", problem, "one server speaks one dialect")
            for method in registry.methods.values():
                together._put(method)
        return together or cls()

    @property
    def methods(self) -> Mapping[str, Method]:
        """By name."""
        return MappingProxyType(self._methods)

    def method(
        self,
        name: str,
        *,
        scope: str | None = None,
        deadline_seconds: float | None = None,
        concurrency: int | None = None,
        audited: bool = False,
    ) -> Callable[[F], F]:
        """Register the decorated function as `name`; signature from its type hints, help from its docstring.

        Callers need ``rpc:call:SCOPE`` (default: the name). A call may take `deadline_seconds` (default:
        `limits.rpc_call_seconds`), and `concurrency` of them run at a time. Each call of an `audited` one
        is a line in the audit trail. Raises `ConfigurationError`.
        """

        def register(function: F) -> F:
            self.add(
                function,
                name,
                scope=scope,
                deadline_seconds=deadline_seconds,
                concurrency=concurrency,
                audited=audited,
            )
            return function

        return register

    def add(
        self,
        function: Callable[..., Any],
        name: str,
        *,
        scope: str | None = None,
        deadline_seconds: float | None = None,
        concurrency: int | None = None,
        audited: bool = False,
    ) -> None:
        """Register `function` as `name`; see `method`."""
        if not _NAME.fullmatch(name) or len(name) > _NAME_BYTES:
            cure = "a method's name is identifiers with dots between, none with a leading underscore"
            raise ConfigurationError(f"rpc method {name!r}", "not a method's name", cure)
        if name.startswith("system."):
            raise ConfigurationError(f"rpc method {name!r}", "system.* is the server's own")
        where = f"rpc method {name}"
        manner = _manner_of(function, where)
        if manner is Manner.INLINE and (deadline_seconds is not None or concurrency is not None):
            raise ConfigurationError(where, "an inline method has neither deadline nor concurrency bound")
        if (deadline_seconds is not None and not deadline_seconds > 0) or (
            concurrency is not None and concurrency < 1
        ):
            raise ConfigurationError(where, "deadline_seconds and concurrency are above 0")
        signature = signature_of(function, Call, allow_nil=self.allow_nil, where=where)
        help_text = inspect.getdoc(function) or ""
        resource = name if scope is None else scope
        self._put(
            Method(
                name, function, manner, signature, help_text, resource, deadline_seconds, concurrency, audited
            )
        )
        if inspect.isfunction(function):
            function.__dict__[_REGISTERED] = True

    def expose(self, prefix: str, instance: object) -> None:
        """Register the methods of `instance` that are marked `exposed`, each as ``PREFIX.method``.

        Raises `ConfigurationError` where there is none.
        """
        marked = [
            (name, member.__dict__[_EXPOSED])
            for name, member in inspect.getmembers_static(type(instance), inspect.isfunction)
            if _EXPOSED in member.__dict__
        ]
        if not marked:
            kind = type(instance).__name__
            raise ConfigurationError(f"rpc service {prefix}", f"{kind} exposes nothing", "mark them @exposed")
        for name, options in marked:
            # The name is the class's own, never a caller's.
            self.add(getattr(instance, name), f"{prefix}.{name}", **dataclasses.asdict(options))

    def _put(self, method: Method) -> None:
        if method.name in self._methods:
            raise ConfigurationError(f"rpc method {method.name}", "is registered twice")
        self._methods[method.name] = method


def _manner_of(function: Callable[..., Any], where: str) -> Manner:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(where, "a generator has no one result", "return a list")
    is_inline = _INLINE in getattr(function, "__dict__", {})
    if inspect.iscoroutinefunction(function):
        if is_inline:
            raise ConfigurationError(where, "is both async and inline", "a method that awaits is not inline")
        return Manner.AWAITED
    return Manner.INLINE if is_inline else Manner.POOLED
