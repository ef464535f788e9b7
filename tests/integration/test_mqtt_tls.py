"""TLS to a real broker: mutual certificates work, and whatever does not verify is refused with the reason."""

import datetime
import ipaddress
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge.errors import BrokerError
from edge.mqtt.probe import probe
from edge.mqtt.settings import Broker
from tests.conftest import free_port, skip_unless, stop_process, wait_for_port

pytestmark = pytest.mark.broker


def make(folder, name, issuer=None, *, ca=False):
    """A key and a certificate, signed by the issuer or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer_name, issuer_key = (subject, key) if issuer is None else issuer
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return subject, key


@pytest.fixture
def secure(tmp_path):
    authority = make(tmp_path, "ca", ca=True)
    make(tmp_path, "broker", authority)
    make(tmp_path, "box", authority)
    make(tmp_path, "stranger", ca=True)
    port = free_port()
    config = tmp_path / "tls.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\ncafile {tmp_path}/ca.pem\ncertfile {tmp_path}/broker.pem\nkeyfile {tmp_path}/broker.key\n"
        "require_certificate true\nuse_identity_as_username true\nallow_anonymous false\nuser root\n"
    )
    binary = "/usr/sbin/mosquitto"
    skip_unless(subprocess.run(["test", "-x", binary], check=False).returncode == 0, "mosquitto is not installed")
    process = subprocess.Popen([binary, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_port(port)
    yield port, tmp_path
    stop_process(process)


def broker(port, folder, ca="ca", cert="box"):
    own = (f"{folder}/{cert}.pem", f"{folder}/{cert}.key") if cert else ("", "")
    return Broker("127.0.0.1", port, tls=True, ca=f"{folder}/{ca}.pem", cert=own[0], key=own[1])


def test_both_sides_prove_who_they_are(secure):
    assert probe(broker(*secure), "p") == "5"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves the socket to the collector
def test_a_broker_of_another_authority_is_not_believed(secure):
    with pytest.raises(BrokerError, match="the broker's certificate does not verify"):
        probe(broker(*secure, ca="stranger"), "p", 3.0)


def test_without_our_own_certificate_the_broker_refuses(secure):
    with pytest.raises(BrokerError):
        probe(broker(*secure, cert=""), "p", 3.0)


def test_a_missing_ca_file_is_said(secure):
    with pytest.raises(BrokerError, match="No such file"):
        probe(broker(*secure, ca="none"), "p", 3.0)


def test_plain_text_to_a_tls_port_is_no_connection(secure):
    with pytest.raises(BrokerError):
        probe(Broker("127.0.0.1", secure[0], protocol="5"), "p", 3.0)
