"""Fault codes, the constant texts that go with them, and the errors a caller gets for them.

The codes are those of "Specification for Fault Code Interoperability" (Dan Libby, 2001), the ones
every XML-RPC implementation that has codes at all uses.
"""

from __future__ import annotations

import enum

from secure_net.errors import FaultError, LocalProtocolError, Refusal, RemoteProtocolError


class Code(enum.IntEnum):
    """Every fault code that we send."""

    NOT_WELL_FORMED = -32700
    NOT_A_CALL = -32600
    METHOD_NOT_FOUND = -32601
    WRONG_PARAMETERS = -32602
    INTERNAL_ERROR = -32603
    APPLICATION_ERROR = -32500


# What a peer reads. Constant: no text of an exception, no name that somebody sent comes back.
NOT_WELL_FORMED = "not well formed"
NOT_A_CALL = "not an XML-RPC call"
METHOD_NOT_FOUND = "no such method, or not permitted"
WRONG_PARAMETERS = "wrong parameters"
DEADLINE_EXCEEDED = "deadline exceeded"
OVERLOADED = "too many calls are waiting"
TOO_LONG = "the answer is too long"
STOPPING = "the server is stopping"
INTERNAL_ERROR = "internal error, reference {}"  # the reference is ours, and stands in the log


class DecodeError(RemoteProtocolError):
    """What arrived is not XML-RPC. `code` is -32700 or -32600; `detail` is for the log."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(Refusal.MALFORMED, detail)
        self.code = code


class EncodeError(LocalProtocolError):
    """A value has no XML-RPC form, or its form passes a bound. Says which, without showing the value."""


class Fault(FaultError):  # noqa: N818 - the word of XML-RPC, and of `xmlrpc.client`
    """Raised on purpose by a method: the caller gets this message, and this code.

    `code` is the method's own (the caller sees an `ApplicationError`); codes from -32768 to -32000 are
    reserved by the interoperability specification, -32500 among them: it is the default and says
    "application error".
    """

    def __init__(self, message: str, code: int = Code.APPLICATION_ERROR) -> None:
        reserved = -32768 <= code <= -32000 and code != Code.APPLICATION_ERROR
        if reserved or not -(2**31) <= code < 2**31:
            raise ValueError(f"fault code {code} is reserved, or wider than 32 bits")
        super().__init__(code, message)


class NotWellFormedError(FaultError):
    """-32700: the server could not parse what we sent."""


class NotACallError(FaultError):
    """-32600: the server parsed it, and it was no XML-RPC call."""


class MethodNotFoundError(FaultError):
    """-32601: there is no such method, or we may not call it; a server does not say which."""


class WrongParametersError(FaultError):
    """-32602: number or types of the parameters do not fit the method's signature."""


class InternalError(FaultError):
    """-32603: the method failed, or passed its deadline; the message holds the reference in its log."""


class ApplicationError(FaultError):
    """-32500, or a code of the application's own: raised on purpose by the method."""
