"""The whitelist."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from secure_net.errors import ConfigurationError
from secure_net.rpc.registry import Call, Manner, Registry, exposed, inline
from tests.support.rpc import principal


def nothing() -> int:
    """Do nothing.

    Really.
    """
    return 0


async def later() -> int:
    return 0


def test_a_method_is_what_its_decorators_say() -> None:
    registry = Registry()

    @registry.method("a.plain", scope="a.read", deadline_seconds=2.5, concurrency=3, audited=True)
    def plain(call: Call, value: int) -> int:
        """Help."""
        return value if call else 0

    @registry.method("a.quick")
    @inline
    def quick() -> int:
        return 1

    @registry.method("a.later")
    async def slow() -> int:
        return 1

    method = registry.methods["a.plain"]
    assert (method.manner, method.resource, method.help) == (Manner.POOLED, "a.read", "Help.")
    assert (method.deadline_seconds, method.concurrency, method.audited) == (2.5, 3, True)
    assert method.signature.wants_caller
    assert registry.methods["a.quick"].manner is Manner.INLINE
    assert registry.methods["a.quick"].resource == "a.quick"
    assert registry.methods["a.quick"].help == ""
    assert registry.methods["a.later"].manner is Manner.AWAITED
    assert quick() == 1  # a decorated function is the function


def test_permission_is_by_scope() -> None:
    registry = Registry()
    registry.add(nothing, "a.b", scope="group.b")
    method = registry.methods["a.b"]
    assert method.help == "Do nothing.\n\nReally."
    assert method.permits(principal("rpc:call:group.*"))
    assert not method.permits(principal("rpc:call:a.b"))


def test_the_view_of_the_methods_is_read_only() -> None:
    registry = Registry()
    with pytest.raises(TypeError):
        registry.methods["a"] = None  # type: ignore[index]  # that it cannot be done is the point


@pytest.mark.parametrize("name", ["a", "math.double", "a.b.c", "aB9_.c_", "x" * 255])
def test_names(name: str) -> None:
    registry = Registry()
    registry.add(nothing, name)
    assert list(registry.methods) == [name]


@pytest.mark.parametrize(
    "name",
    ["", ".", "a.", ".a", "a..b", "_a", "a._b", "9a", "a b", "a/b", "é", "a\n", "x" * 256, "__class__"],
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ConfigurationError, match="not a method's name"):
        Registry().add(nothing, name)


def test_system_is_the_server_s_own() -> None:
    with pytest.raises(ConfigurationError, match="server's own"):
        Registry().add(nothing, "system.listMethods")


def test_no_name_twice() -> None:
    registry = Registry()
    registry.add(nothing, "a")
    with pytest.raises(ConfigurationError, match="rpc method a: is registered twice"):
        registry.add(nothing, "a")


@pytest.mark.parametrize(
    "options",
    [
        {"deadline_seconds": 0.0},
        {"deadline_seconds": -1.0},
        {"deadline_seconds": float("nan")},
        {"concurrency": 0},
    ],
)
def test_bounds_that_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="above 0"):
        Registry().add(nothing, "a", **options)


@pytest.mark.parametrize("options", [{"deadline_seconds": 1.0}, {"concurrency": 1}])
def test_an_inline_method_has_no_bounds(options: dict[str, Any]) -> None:
    @inline
    def quick() -> int:
        return 1

    with pytest.raises(ConfigurationError, match="neither deadline nor concurrency"):
        Registry().add(quick, "a", **options)


def test_inline_above_the_registration_would_come_too_late() -> None:
    registry = Registry()

    def quick() -> int:
        return 1

    registry.add(quick, "a")
    with pytest.raises(ConfigurationError, match="put @inline below @method"):
        inline(quick)


def test_what_awaits_is_not_inline() -> None:
    @inline
    async def slow() -> int:
        return 1

    with pytest.raises(ConfigurationError, match="both async and inline"):
        Registry().add(slow, "a")


def test_generators_are_refused() -> None:
    def many() -> Iterator[int]:
        yield 1

    async def many_later() -> AsyncIterator[int]:
        yield 1

    function: Callable[..., Any]
    for function in (many, many_later):
        with pytest.raises(ConfigurationError, match="a generator has no one result"):
            Registry().add(function, "a")


def test_a_bad_signature_names_the_method() -> None:
    def bad(value: complex) -> int:
        return int(value.real)

    with pytest.raises(ConfigurationError, match=r"rpc method a\.bad: "):
        Registry().add(bad, "a.bad")


class Service:
    offset = 1

    @exposed
    def plain(self, value: int) -> int:
        return value + self.offset

    @exposed(scope="s.read", audited=True)
    async def later(self) -> int:
        return self.offset

    @exposed
    @inline
    def quick(self) -> int:
        return self.offset

    def hidden(self) -> int:
        return 0

    def _private(self) -> int:
        return 0


class Derived(Service):
    @exposed
    def more(self) -> int:
        return 1


def test_only_marked_methods_of_an_object_are_exposed() -> None:
    registry = Registry()
    registry.expose("s", Service())
    assert set(registry.methods) == {"s.plain", "s.later", "s.quick"}
    assert registry.methods["s.plain"].function(1) == 2
    assert registry.methods["s.plain"].signature.rows() == [["int", "int"]]
    assert registry.methods["s.quick"].manner is Manner.INLINE
    assert registry.methods["s.later"].manner is Manner.AWAITED
    assert (registry.methods["s.later"].resource, registry.methods["s.later"].audited) == ("s.read", True)
    registry.expose("d", Derived())
    assert "d.more" in registry.methods
    assert "d.plain" in registry.methods


def test_two_objects_of_one_class_are_two_services() -> None:
    registry = Registry()
    other = Service()
    other.offset = 5
    registry.expose("a", Service())
    registry.expose("b", other)
    assert registry.methods["b.plain"].function(1) == 6


def test_an_object_that_exposes_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="object exposes nothing; mark them @exposed"):
        Registry().expose("s", object())


def test_an_underscored_method_cannot_be_exposed() -> None:
    class Sly:
        @exposed
        def _x(self) -> int:
            return 1

    with pytest.raises(ConfigurationError, match="not a method's name"):
        Registry().expose("s", Sly())


def test_registries_are_merged() -> None:
    first, second = Registry(allow_nil=False), Registry(allow_nil=False)
    first.add(nothing, "a")
    second.add(nothing, "b")
    together = Registry.merged([first, second])
    assert set(together.methods) == {"a", "b"}
    assert (together.allow_nil, together.allow_i8) == (False, True)
    assert not Registry.merged([]).methods
    with pytest.raises(ConfigurationError, match="registered twice"):
        Registry.merged([first, first])
    with pytest.raises(ConfigurationError, match="differ in allow_nil"):
        Registry.merged([first, Registry()])
