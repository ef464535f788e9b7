"""What the station of a configuration needs: its model, secrets, broker, ports and camera, each tried as the daemon would."""

import socket
from collections.abc import Iterator

from edge.config.station import StationConfig
from edge.daemon import build
from edge.daemon.build_camera import is_simulated
from edge.doctor.finding import Finding
from edge.errors import OnbeltError
from edge.mqtt.probe import probe


def model(config: StationConfig) -> Iterator[Finding]:
    """The model: verified, run once, and named in verdicts that fit."""
    try:
        bundle = build.load_bundle(config)
    except OnbeltError as exc:
        yield Finding("model", "fail", str(exc), "copy the bundle there, and the signer's key into a trust folder")
        return
    manifest = bundle.manifest
    yield Finding(
        "model",
        "ok",
        f"{bundle.path.name}: {manifest.product} version {manifest.version}, {manifest.precision}, key {bundle.key_id[:16]}",
    )
    try:
        with build.make_engine(config, bundle) as engine:
            engine.infer(bundle.picture(bundle.golden[0].picture))
            yield Finding("engine", "ok", f"{engine.name}; onbelt run --check proves and times it")
    except OnbeltError as exc:
        yield Finding("engine", "fail", str(exc), "choose another engine in model.engine, or install it")
    try:
        build.make_identity(config, bundle, "0" * 26, None)
    except OnbeltError as exc:
        yield Finding("names", "fail", str(exc))


def secrets(config: StationConfig) -> Iterator[Finding]:
    """Password, seal and encryption."""
    try:
        broker, key = config.broker(), config.mac_key()
    except OnbeltError as exc:
        yield Finding("secrets", "fail", str(exc))
        return
    if config.mqtt.user and not broker.password:
        yield Finding(
            "secrets",
            "warn",
            "mqtt.user without a password",
            "name its file in mqtt.password, or LoadCredential=mqtt.password:...",
        )
    else:
        yield Finding("secrets", "ok", f"password {'there' if broker.password else 'not needed'}, seal {'on' if key else 'off'}")
    if not broker.tls and broker.host not in {"127.0.0.1", "::1", "localhost"}:
        yield Finding(
            "encryption",
            "warn",
            f"{broker} without TLS: anybody on the network can forge a verdict",
            "mqtt.tls = true, or [seal]",
        )


def broker(config: StationConfig) -> Iterator[Finding]:
    """Whether the broker answers us."""
    broker = config.broker()
    try:
        protocol = probe(broker, f"onbelt-doctor-{config.station.station}")
    except OnbeltError as exc:
        yield Finding("broker", "fail", str(exc), "start it (apt-get install mosquitto), or correct mqtt.host and mqtt.port")
        return
    yield Finding("broker", "ok", f"{broker}, MQTT {protocol}")


def ports(config: StationConfig) -> Iterator[Finding]:
    """Whether the ports the daemon listens on are free."""
    wanted = [("page", socket.SOCK_STREAM, (config.page.host, config.page.port))] if config.page.enabled else []
    if config.trigger.kind == "udp":
        wanted.append(("trigger", socket.SOCK_DGRAM, config.listen_address()))
    for name, kind, address in wanted:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        with socket.socket(family, kind) as probe_socket:
            if kind == socket.SOCK_STREAM:
                probe_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe_socket.bind(address)
            except OSError as exc:
                yield Finding(
                    f"{name} port",
                    "warn",
                    f"{address[0]}:{address[1]}: {exc.strerror}",
                    "is the daemon running already? else choose another port",
                )
                continue
        yield Finding(f"{name} port", "ok", f"{address[0]}:{address[1]} is free")


def camera(config: StationConfig) -> Iterator[Finding]:
    """Whether the camera opens."""
    try:
        with build.make_camera(config) as camera:
            camera.start()
            if is_simulated(config.camera):
                text = f"{camera.name}: simulated, it sees no real part"
                yield Finding("camera", "warn", text, "name the real one in camera.kind before parts are judged")
            else:
                yield Finding("camera", "ok", camera.name)
    except OnbeltError as exc:
        yield Finding("camera", "fail", str(exc))
