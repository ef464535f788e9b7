"""Sparkplug B read by Google's protobuf runtime from the official description: a decoder that shares nothing with ours.

The field numbers are those of sparkplug_b.proto (Eclipse Tahu), the parts of it that carry metrics.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_F = descriptor_pb2.FieldDescriptorProto
_METRIC = (
    ("name", 1, _F.TYPE_STRING),
    ("alias", 2, _F.TYPE_UINT64),
    ("timestamp", 3, _F.TYPE_UINT64),
    ("datatype", 4, _F.TYPE_UINT32),
    ("is_historical", 5, _F.TYPE_BOOL),
    ("is_transient", 6, _F.TYPE_BOOL),
    ("is_null", 7, _F.TYPE_BOOL),
    ("int_value", 10, _F.TYPE_UINT32),
    ("long_value", 11, _F.TYPE_UINT64),
    ("float_value", 12, _F.TYPE_FLOAT),
    ("double_value", 13, _F.TYPE_DOUBLE),
    ("boolean_value", 14, _F.TYPE_BOOL),
    ("string_value", 15, _F.TYPE_STRING),
    ("bytes_value", 16, _F.TYPE_BYTES),
)
_PAYLOAD = (
    ("timestamp", 1, _F.TYPE_UINT64),
    ("seq", 3, _F.TYPE_UINT64),
    ("uuid", 4, _F.TYPE_STRING),
    ("body", 5, _F.TYPE_BYTES),
)


def _payload_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="sparkplug_b.proto", package="sparkplug", syntax="proto2")
    payload = file.message_type.add(name="Payload")
    metric = payload.nested_type.add(name="Metric")
    metric.oneof_decl.add(name="value")
    for name, number, kind in _METRIC:
        field = metric.field.add(name=name, number=number, type=kind, label=_F.LABEL_OPTIONAL)
        if number >= 10:
            field.oneof_index = 0
    for name, number, kind in _PAYLOAD:
        payload.field.add(name=name, number=number, type=kind, label=_F.LABEL_OPTIONAL)
    payload.field.add(
        name="metrics", number=2, type=_F.TYPE_MESSAGE, label=_F.LABEL_REPEATED, type_name=".sparkplug.Payload.Metric"
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("sparkplug.Payload"))


Payload = _payload_class()


def parse(payload: bytes) -> Any:
    """A payload; fails where a byte belongs to no field of the official description."""
    found = Payload()
    found.ParseFromString(payload)
    again = Payload()
    again.ParseFromString(payload)
    again.DiscardUnknownFields()
    assert again.ByteSize() == found.ByteSize(), "fields that Sparkplug does not know"
    return found


def values(payload: Any) -> dict[str, Any]:
    """Values by name; None for a null."""
    return {metric.name: None if metric.is_null else getattr(metric, metric.WhichOneof("value")) for metric in payload.metrics}


def command(name: str, value: object, **more: Any) -> bytes:
    """An NCMD as a host writes it."""
    made = Payload(timestamp=1, seq=0)
    metric = made.metrics.add(name=name, timestamp=1, datatype=11, **more)
    if isinstance(value, bool):
        metric.boolean_value = value
    elif isinstance(value, int):
        metric.int_value = value
    return bytes(made.SerializeToString())
