"""What XML-RPC attackers send, as tables: at the codec, at the dispatcher and over a socket the same follows.

`DOCUMENTS` are bodies, each with the fault codes that may answer it. `NAMES` are method names that all get
one and the same answer.
"""

from __future__ import annotations

import dataclasses

NOT_WELL_FORMED, NOT_A_CALL, NOT_FOUND, WRONG_PARAMETERS = -32700, -32600, -32601, -32602


@dataclasses.dataclass(frozen=True)
class Attack:
    """`name` says what is tried; `body` is answered with a fault of one of `codes`."""

    name: str
    body: bytes
    codes: frozenset[int]

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def call(params: str = "", name: str = "math.double", prolog: str = "<?xml version='1.0'?>") -> bytes:
    """A call out of raw ``<params>`` content."""
    document = f"{prolog}<methodCall><methodName>{name}</methodName><params>{params}</params></methodCall>"
    return document.encode("utf-8", "surrogatepass")


def value(inner: str) -> str:
    return f"<param><value>{inner}</value></param>"


def _bad(name: str, body: bytes, *codes: int) -> Attack:
    return Attack(name, body, frozenset(codes or (NOT_A_CALL,)))


def _lexical(name: str, inner: str) -> Attack:
    return _bad(name, call(value(inner)))


_LAUGHS = "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 10))
_BLOWN_UP = "a" * 50_000

# Row 1: entities, DTDs, processing instructions, encodings. `{port}` is where a connection would go out to.
ENTITIES = (
    _bad(
        "billion laughs",
        call(value("&l9;"), prolog=f"<?xml version='1.0'?><!DOCTYPE m [<!ENTITY l0 'ha'>{_LAUGHS}]>"),
    ),
    _bad(
        "quadratic blow-up",
        call(value("&a;" * 50_000), prolog=f"<!DOCTYPE m [<!ENTITY a '{_BLOWN_UP}'>]>"),
    ),
    _bad(
        "external entity of a file",
        call(value("&x;"), prolog="<!DOCTYPE m [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>"),
    ),
    _bad(
        "external entity of a server",
        call(value("&x;"), prolog="<!DOCTYPE m [<!ENTITY x SYSTEM 'http://127.0.0.1:{port}/x'>]>"),
    ),
    _bad(
        "parameter entity",
        call(prolog="<!DOCTYPE m [<!ENTITY % x SYSTEM 'http://127.0.0.1:{port}/x'>%x;]>"),
    ),
    _bad(
        "external DTD", call(value("<int>7</int>"), prolog="<!DOCTYPE m SYSTEM 'http://127.0.0.1:{port}/'>")
    ),
    _bad(
        "public DTD", call(value("<int>7</int>"), prolog="<!DOCTYPE m PUBLIC 'a' 'http://127.0.0.1:{port}/'>")
    ),
    _bad("bare doctype", call(value("<int>7</int>"), prolog="<!DOCTYPE methodCall>")),
    _bad("doctype behind a comment", call(prolog="<!-- <methodCall> --><!DOCTYPE m [<!ENTITY a 'b'>]>")),
    _bad("doctype behind the root", call() + b"<!DOCTYPE m>", NOT_WELL_FORMED),
    _bad("doctype inside the root", b"<methodCall><!DOCTYPE m></methodCall>", NOT_WELL_FORMED),
    _bad("undefined entity", call(value("&nbsp;")), NOT_WELL_FORMED),
    _bad("stylesheet instruction", call(prolog="<?xml-stylesheet href='http://127.0.0.1:{port}/'?>")),
    _bad("instruction in a value", call(value("a<?php echo 1 ?>b"))),
    _bad("second declaration", call(value("<?xml version='1.0'?>")), NOT_WELL_FORMED),
    _bad("XML 1.1", call(prolog="<?xml version='1.1'?>") + b"\x01", NOT_WELL_FORMED),
    *(
        _bad(f"{encoding} {kind}", document, NOT_WELL_FORMED)
        for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")
        for kind, document in (
            ("declared", call(prolog="<?xml version='1.0' encoding='utf-16'?>").decode().encode(encoding)),
            ("undeclared", call(prolog="").decode().encode(encoding)),
        )
    ),
    *(
        _bad(
            f"declared {encoding}",
            call(prolog=f"<?xml version='1.0' encoding='{encoding}'?>"),
            NOT_WELL_FORMED,
        )
        for encoding in (
            "utf-7",
            "utf-16",
            "iso-8859-1",
            "windows-1252",
            "ebcdic",
            "utf_8",
            "UTF8",
            "x",
            "cp037",
        )
    ),
    _bad("Latin-1 as UTF-8", call(value("é")).decode().encode("latin-1"), NOT_WELL_FORMED),
    _bad("overlong UTF-8", call(value("X")).replace(b"X", b"\xc0\xbc"), NOT_WELL_FORMED),
    _bad("encoded surrogate", call(value("\ud800")), NOT_WELL_FORMED),
    _bad(
        "ASCII that is none",
        call(value("é"), prolog="<?xml version='1.0' encoding='us-ascii'?>"),
        NOT_WELL_FORMED,
    ),
    _bad("zero byte", call(value("a\0b")), NOT_WELL_FORMED),
    _bad("control character", call(value("a\x01b")), NOT_WELL_FORMED),
    _bad("control character reference", call(value("a&#1;b")), NOT_WELL_FORMED),
    _bad("surrogate reference", call(value("&#xD800;")), NOT_WELL_FORMED),
)

# Row 2: size and shape of the tree, and the text of each type.
_DEEP = 200_000
TREES = (
    _bad("arrays 200,000 deep", call(value("<array><data><value>" * _DEEP))),
    _bad("structs 200,000 deep", call(value("<struct><member><name>a</name><value>" * _DEEP))),
    _bad("elements 200,000 deep", b"<a>" * _DEEP),
    _bad(
        "33 deep",
        call(value("<array><data><value>" * 10 + "</value></data></array>" * 10)),
    ),
    _bad("a million empty values", call(value(f"<array><data>{'<value/>' * 1_000_000}</data></array>"))),
    _bad("50,001 params", call("<param><value/></param>" * 25_001)),
    _bad("two values in one value", call(value("<int>1</int><int>2</int>"))),
    _bad("two values in one param", call("<param><value>1</value><value>2</value></param>")),
    _bad("no value in a param", call("<param></param>")),
    _bad("value outside a param", call("<value>1</value>")),
    _bad("text beside a typed value", call(value("1<int>2</int>"))),
    _bad("text behind a typed value", call(value("<int>2</int>1"))),
    _bad("text between params", call(value("1") + "text" + value("2"))),
    _bad("no-break space between params", call(value("1") + "\u00a0" + value("2"))),
    _bad("text in a struct", call(value("<struct>text</struct>"))),
    _bad("text in an array", call(value("<array>text<data/></array>"))),
    _bad("CDATA between params", call("<![CDATA[text]]>")),
    _bad(
        "two method names", b"<methodCall><methodName>a</methodName><methodName>b</methodName></methodCall>"
    ),
    _bad("two params", call().replace(b"</params>", b"</params><params></params>")),
    _bad("params before the name", b"<methodCall><params/><methodName>a</methodName></methodCall>"),
    _bad("no method name", b"<methodCall><params/></methodCall>"),
    _bad("empty call", b"<methodCall/>"),
    _bad("element in the name", call(name="<b>math.double</b>")),
    _bad("two roots", call() + call(prolog=""), NOT_WELL_FORMED),
    _bad(
        "answer as a request",
        b"<methodResponse><params><param><value>1</value></param></params></methodResponse>",
    ),
    _bad(
        "fault as a request",
        b"<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>1</int></value>"
        b"</member></struct></value></fault></methodResponse>",
    ),
    _bad(
        "fault in a call",
        b"<methodCall><methodName>a</methodName><fault><value>1</value></fault></methodCall>",
    ),
    _bad("bare fault", b"<fault><value>1</value></fault>"),
    _bad("attribute", call(value("<int a='1'>7</int>"))),
    _bad("namespace", call(value("<x:int xmlns:x='y'>7</x:int>"))),
    _bad("namespace on the root", b"<methodCall xmlns='http://x'><methodName>a</methodName></methodCall>"),
    _bad("upper-case tag", call(value("<INT>7</INT>"))),
    _bad("unknown type", call(value("<biginteger>7</biginteger>"))),
    _bad("ex:nil", call(value("<ex:nil/>"))),
    _bad("nil with text", call(value("<nil>x</nil>"))),
    _bad("element in an int", call(value("<int><int>7</int></int>"))),
    _bad("array without data", call(value("<array></array>"))),
    _bad("array with two data", call(value("<array><data/><data/></array>"))),
    _bad("member without name", call(value("<struct><member><value>1</value></member></struct>"))),
    _bad("member without value", call(value("<struct><member><name>a</name></member></struct>"))),
    _bad("value before name", call(value("<struct><member><value/><name>a</name></member></struct>"))),
    _bad(
        "duplicate struct names",
        call(value(f"<struct>{'<member><name>a</name><value>1</value></member>' * 2}</struct>")),
    ),
    _bad(
        "duplicate struct names by reference",
        call(
            value(
                "<struct><member><name>a</name><value>1</value></member>"
                "<member><name>&#97;</name><value>2</value></member></struct>"
            )
        ),
    ),
    _bad("empty body", b"", NOT_WELL_FORMED),
    _bad("half a call", call()[:40], NOT_WELL_FORMED),
    _bad("JSON", b'{"method": "math.double"}', NOT_WELL_FORMED),
    _bad("mismatched tags", b"<methodCall></methodcall>", NOT_WELL_FORMED),
    _bad("huge unfinished tag", b"<methodCall><" + b"a" * 500_000, NOT_WELL_FORMED),
    _bad("huge unfinished comment", b"<methodCall><!--" + b">" * 900_000, NOT_WELL_FORMED),
)

_INTEGERS = (
    "",
    " ",
    "1_000",
    " +12 ",
    "12 ",
    "\n12",
    "+-1",
    "--1",
    "+",
    "1.0",
    "1e3",
    "0x10",
    "0b1",
    "1,000",
    "\u0661\u0662",  # Arabic-Indic digits
    "\uff11",  # full-width
    "\u00b2",  # superscript: `isdigit`, not a digit
    "12L",
    "None",
    "9" * 4_000,
    "-" + "0" * 4_000 + "1",
)
_DOUBLES = (
    "",
    "nan",
    "NaN",
    "-nan",
    "inf",
    "-Infinity",
    "1e999999999",
    "1e309",
    "-1e309",
    "1_0.0",
    " 1.0",
    "1.0 ",
    "1,5",
    "0x1p3",
    ".",
    "e5",
    "1e",
    "1.0f",
    "\u0661.5",
    "9" * 5_000,
)
_TIMES = (
    "",
    "19980717",
    "19980717T14:08",
    "19980717T140855",
    "1998-07-17T14:08:55",
    "19980717T14:08:55Z",
    "19980717T14:08:55+00:00",
    "19980717T14:08:55.5",
    "19980717 14:08:55",
    " 19980717T14:08:55",
    "19981317T14:08:55",
    "19980732T14:08:55",
    "19980229T14:08:55",
    "19980717T24:08:55",
    "19980717T23:60:55",
    "19980717T23:08:60",
    "00000101T00:00:00",
    "199807170T4:08:55",
    "\u0661\u0669\u0669\u0668\u0660\u0667\u0661\u0667T14:08:55",
    "now",
)
_BASE64 = (
    "a",
    "ab",
    "abc",
    "abc=d",
    "=abc",
    "ab=c",
    "abcd=",
    "ab==cd",
    "ab\u00a0cd",
    "a*cd",
    "YQ==YQ==",
    "YQ===",
    "YR==",  # bits behind the end
    "é",
)
_BOOLEANS = ("", "2", "true", "True", "False", "01", "+1", "-0", " 1", "1 ", "\u0661", "yes")

TEXTS = (
    *(
        _lexical(f"{tag} {n}", f"<{tag}>{text}</{tag}>")
        for tag in ("int", "i4", "i8")
        for n, text in enumerate(_INTEGERS)
    ),
    *(_lexical(f"double {n}", f"<double>{text}</double>") for n, text in enumerate(_DOUBLES)),
    *(_lexical(f"time {n}", f"<dateTime.iso8601>{text}</dateTime.iso8601>") for n, text in enumerate(_TIMES)),
    *(_lexical(f"base64 {n}", f"<base64>{text}</base64>") for n, text in enumerate(_BASE64)),
    *(_lexical(f"boolean {n}", f"<boolean>{text}</boolean>") for n, text in enumerate(_BOOLEANS)),
    *(
        _lexical(f"{tag} {number}", f"<{tag}>{number}</{tag}>")
        for tag in ("int", "i4")
        for number in (2**31, -(2**31) - 1)
    ),
    *(_lexical(f"i8 {number}", f"<i8>{number}</i8>") for number in (2**63, -(2**63) - 1, 10**19)),
)

DOCUMENTS = ENTITIES + TREES + TEXTS

# Calls that are sound, of a method that takes one int, and do not fit it.
UNFIT = (
    _bad("no parameter", call(), WRONG_PARAMETERS),
    _bad("one too many", call(value("<int>1</int>") * 2), WRONG_PARAMETERS),
    _bad("a string", call(value("<string>7</string>")), WRONG_PARAMETERS),
    _bad("untyped", call(value("7")), WRONG_PARAMETERS),
    _bad("a boolean", call(value("<boolean>1</boolean>")), WRONG_PARAMETERS),
    _bad("a double", call(value("<double>7.0</double>")), WRONG_PARAMETERS),
    _bad("nil", call(value("<nil/>")), WRONG_PARAMETERS),
    _bad(
        "an array of one",
        call(value("<array><data><value><int>7</int></value></data></array>")),
        WRONG_PARAMETERS,
    ),
)

# Row 3: names that all get the answer of a name that does not exist.
NAMES = (
    "no.such.method",
    "",
    " ",
    ".",
    "__class__",
    "__init__",
    "math",
    "math.",
    ".double",
    "math..double",
    "a..b",
    "math.double.__func__",
    "math.double.__call__",
    "math.__class__",
    "math.double.__globals__",
    "a.__init__.__globals__",
    "_x",
    "math._x",
    "system",
    "system.__class__",
    "system.shutdown",
    "system.listmethods",
    " math.double",
    "math.double ",
    "\tmath.double",
    "math.double\n",
    "math. double",
    "MATH.DOUBLE",
    "math/double",
    "math:double",
    "math.d\u043euble",  # a Cyrillic o
    "\uff4dath.double",  # a full-width m, which NFKC would fold
    "math.double\u200b",
    "math.double&#9;",
    "*",
    "math.*",
    "**",
    "'; DROP TABLE methods; --",
    "{0.__class__}",
    "%s%s%s",
    "../../etc/passwd",
    "x" * 256,
    "x" * 1_000_000,
    "secret.method",  # exists; the caller has no scope for it
)
