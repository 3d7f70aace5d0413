"""The status is JSON, with every name a script may depend on."""

from __future__ import annotations

import msgspec

from secure_net.control.status import CertificateStatus, RecordStatus, RevocationStatus, ServiceStatus, Status

STATUS = Status(
    version="0.1.0",
    process=7,
    started_at=1.0,
    uptime_seconds=2.0,
    draining=False,
    services=(
        ServiceStatus(
            name="rpc",
            addresses=("127.0.0.1:8443",),
            connections_open=1,
            connections_total=2,
            refused_total=3,
        ),
    ),
    certificates=(CertificateStatus(file="server.pem", names=("localhost",), not_after=9.0, days_left=0.5),),
    revocations=RevocationStatus(epoch=1, certificates=0, tokens=0, names_blocked=1),
    records=RecordStatus(audit_head="1:ab", audit_dropped=0, log_dropped=0),
    principals={"bob": 1},
)


def test_it_travels_as_json_and_comes_back() -> None:
    plain = msgspec.to_builtins(STATUS)
    assert list(plain) == [
        "version",
        "process",
        "started_at",
        "uptime_seconds",
        "draining",
        "services",
        "certificates",
        "revocations",
        "records",
        "principals",
        "buffered_bytes",
        "chat",
        "problems",
        "activity",
        "audit",
    ]
    assert plain["services"][0]["addresses"] == ("127.0.0.1:8443",)
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(plain)), Status) == STATUS
