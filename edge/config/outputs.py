"""station.toml, the sections of what goes out: broker, seal, page, journal, evidence, bridges."""

from typing import Annotated, Literal

import msgspec

Doc = msgspec.Meta
Port = Annotated[int, Doc(ge=0, le=65535)]


class Mqtt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The broker."""

    host: Annotated[str, Doc(min_length=1, description="name or address")] = "127.0.0.1"
    port: Annotated[int, Doc(ge=1, le=65535, description="TCP port; 8883 is usual with TLS")] = 1883
    protocol: Annotated[
        Literal["auto", "5", "3.1.1"], Doc(description="auto: 5, and 3.1.1 where the broker does not know it")
    ] = "auto"
    keepalive_s: Annotated[
        int, Doc(ge=1, le=600, description="s of silence after which either side gives the other up; the will comes 1.5 x later")
    ] = 5
    user: Annotated[str, Doc(description="user name; empty connects without one")] = ""
    password: Annotated[
        str, Doc(description="file with the password, mode 0600; empty: the service manager's credential mqtt.password")
    ] = ""
    tls: Annotated[bool, Doc(description="encrypt, and check the broker's certificate (no switch turns that off)")] = False
    ca: Annotated[str, Doc(description="file of the CA that signed the broker's certificate; empty: the system's")] = ""
    cert: Annotated[str, Doc(description="our own certificate, for mutual TLS")] = ""
    key: Annotated[str, Doc(description="its private key")] = ""


class Seal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A MAC on every verdict, for gates that ask for one."""

    enabled: Annotated[bool, Doc(description="seal verdicts with HMAC-SHA256")] = False
    mac_key: Annotated[
        str, Doc(description="file with the key, at least 16 bytes, mode 0600; empty: the credential verdict.key")
    ] = ""


class Page(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The live page."""

    enabled: Annotated[bool, Doc(description="serve it")] = True
    host: Annotated[str, Doc(description="address to listen on; it has no log-in, so this machine only")] = "127.0.0.1"
    port: Annotated[Port, Doc(description="TCP port; 0 takes a free one and logs it")] = 8080
    allowed_hosts: Annotated[list[str], Doc(max_length=16, description="further names it is reached by")] = []


class Journal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where every verdict is written before it is published."""

    path: Annotated[str, Doc(description="database file on a local disk; two stations never share one")] = (
        "/var/lib/onbelt/journal.db"
    )
    max_mb: Annotated[
        float,
        Doc(ge=1.0, le=1_000_000.0, description="MB on the disk, reserved at start; about 800 verdicts each, oldest go first"),
    ] = 256.0
    anchors: Annotated[
        bool, Doc(description="sign the chain's head every anchor_s, beside the journal and on topic audit: proves its end")
    ] = False
    anchor_s: Annotated[float, Doc(ge=1.0, le=86_400.0, description="s between two anchors while there are verdicts")] = 60.0
    anchor_key: Annotated[
        str, Doc(description="file of their Ed25519 key, made by onbelt keygen, mode 0600; empty: the credential journal.key")
    ] = ""


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Frames and anomaly maps of judged parts, for people and for onbelt journal replay."""

    enabled: Annotated[bool, Doc(description="keep them; what is not a pass is always kept")] = True
    path: Annotated[str, Doc(description="folder of its own for them; empty: evidence beside the journal")] = ""
    max_mb: Annotated[
        float, Doc(ge=1.0, le=10_000_000.0, description="MB on the disk, about 8 frames of 256 px each; oldest go first")
    ] = 1024.0
    keep_free_mb: Annotated[
        float, Doc(ge=0.0, le=10_000_000.0, description="MB the disk keeps free: evidence goes before anything else lacks room")
    ] = 256.0
    pass_every: Annotated[
        int, Doc(ge=0, le=1_000_000, description="of so many passed parts one is kept; 1 keeps all (flash wears), 0 none")
    ] = 100


class Bridge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Other systems that listen to the broker."""

    home_assistant: Annotated[bool, Doc(description="publish Home Assistant's discovery, so that it shows the station")] = False
    sparkplug: Annotated[bool, Doc(description="be a Sparkplug B edge node (spBv1.0/group/.../line-station) for SCADA")] = False
    sparkplug_group: Annotated[
        str, Doc(pattern=r"^[A-Za-z0-9._-]{0,32}\Z", description="its Sparkplug group; empty: the station's site")
    ] = ""
    gate_socket: Annotated[
        str, Doc(description="socket of a gate on this box (its line.socket): it hears verdicts without a broker; empty: none")
    ] = ""
