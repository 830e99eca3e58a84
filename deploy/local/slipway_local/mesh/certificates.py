"""A certificate authority and one SPIFFE certificate per identity, as istiod gives to sidecars.

https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md: the identity is the one URI in the
subject alternative name.
"""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from slipway_local.credentials import write_private

CA_DAYS = 3650
LEAF_DAYS = 30
RENEWED_BELOW_DAYS = 15


@dataclass(frozen=True)
class Issued:
    """Paths of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Signs the identities of one platform; made once, kept in its folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.certificate = folder / "ca.pem"
        self._key_path = folder / "ca-key.pem"
        if not (self.certificate.exists() and self._key_path.exists()):
            self._make()
        key = serialization.load_pem_private_key(self._key_path.read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        self._own = x509.load_pem_x509_certificate(self.certificate.read_bytes())

    def issue(self, name: str, spiffe_id: str) -> Issued:
        """Return the identity's certificate, renewed while it is good for less than 15 days."""
        issued = Issued(self._folder / f"{name}.pem", self._folder / f"{name}-key.pem")
        if not self._is_good(issued):
            key = ec.generate_private_key(ec.SECP256R1())
            write_private(issued.key, _pem(key))
            uri = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spiffe_id)])
            certificate = (
                _builder(x509.Name([]), self._own.subject, key, LEAF_DAYS)
                .add_extension(uri, critical=True)
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .sign(self._key, hashes.SHA256())
            )
            write_private(issued.certificate, certificate.public_bytes(serialization.Encoding.PEM).decode())
        return issued

    def _is_good(self, issued: Issued) -> bool:
        if not (issued.certificate.exists() and issued.key.exists()):
            return False
        certificate = x509.load_pem_x509_certificate(issued.certificate.read_bytes())
        left = certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)
        return certificate.issuer == self._own.subject and left.days >= RENEWED_BELOW_DAYS

    def _make(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Slipway laptop mesh")])
        certificate = (
            _builder(name, name, key, CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        write_private(self._key_path, _pem(key))
        write_private(self.certificate, certificate.public_bytes(serialization.Encoding.PEM).decode())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
