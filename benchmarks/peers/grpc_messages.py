"""The messages and methods of the gRPC peers, as `protoc` would build them from

message Number { int32 value = 1; }
message Row { int32 id = 1; string name = 2; double reading = 3; bool active = 4; string remark = 5; }
message Rows { repeated Row rows = 1; }
service Bench { rpc Double(Number) returns (Number); rpc Same(Rows) returns (Rows); }
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from benchmarks.payloads import Workload

FIELD = descriptor_pb2.FieldDescriptorProto
SERVICE = "bench.Bench"
MESSAGES: dict[str, tuple[tuple[str, int], ...]] = {
    "Number": (("value", FIELD.TYPE_INT32),),
    "Row": (
        ("id", FIELD.TYPE_INT32),
        ("name", FIELD.TYPE_STRING),
        ("reading", FIELD.TYPE_DOUBLE),
        ("active", FIELD.TYPE_BOOL),
        ("remark", FIELD.TYPE_STRING),
    ),
}
PATHS = {"math.double": f"/{SERVICE}/Double", "bench.same": f"/{SERVICE}/Same"}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="bench.proto", package="bench", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields, start=1):
            message.field.add(name=field, number=number, type=kind, label=FIELD.LABEL_OPTIONAL)
    file.message_type.add(name="Rows").field.add(
        name="rows", number=1, type=FIELD.TYPE_MESSAGE, type_name=".bench.Row", label=FIELD.LABEL_REPEATED
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptors = {name: pool.FindMessageTypeByName(f"bench.{name}") for name in (*MESSAGES, "Rows")}
    return {name: message_factory.GetMessageClass(descriptor) for name, descriptor in descriptors.items()}


CLASSES = _classes()
Number = CLASSES["Number"]
Rows = CLASSES["Rows"]


def message_for(value: Any) -> Any:
    """The protobuf message that carries a workload's value."""
    return Number(value=value) if isinstance(value, int) else Rows(rows=value)


def request(workload: Workload) -> bytes:
    """The message of one call, serialized."""
    serialized: bytes = message_for(workload.argument).SerializeToString()
    return serialized
