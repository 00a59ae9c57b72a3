"""Files that the settings name: missing, unreadable, damaged, of another pair, out of date."""

import os
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from kerege_agent.settings_files import file_doubts, file_mistakes
from kerege_agent.x509 import validity
from kerege_lab.certificates import Certificates
from tests.agent.probe_world import settings_file


@pytest.fixture
def files(certificates: Certificates) -> dict[str, str]:
    """The three files of the center demo, all in order."""
    demo = certificates.clients["demo"]
    return {"ca_file": str(certificates.ca), "certificate_file": str(demo.certificate), "key_file": str(demo.key)}


def test_files_in_order_are_no_mistake(files: dict[str, str]) -> None:
    """Nothing is said about a certificate, its key and its authority."""
    assert file_mistakes(files, Path("/")) == []
    assert file_doubts(files, Path("/")) == []


def test_a_key_of_another_certificate_is_named(files: dict[str, str], certificates: Certificates) -> None:
    """The key must be the certificate's."""
    other = str(certificates.clients["other"].key)
    [(key, text)] = file_mistakes(files | {"key_file": other}, Path("/"))
    assert (key, text) == (
        "key_file",
        f"{other} is not the key of the certificate {files['certificate_file']}: copy both from the same place again",
    )


def test_a_certificate_in_the_place_of_the_key_is_named(files: dict[str, str]) -> None:
    """A file that holds something else than a key is said to."""
    [(key, text)] = file_mistakes(files | {"key_file": files["certificate_file"]}, Path("/"))
    assert key == "key_file"
    assert "is no private key in PEM" in text


def test_a_key_with_a_pass_phrase_is_refused_without_asking_for_it(files: dict[str, str], tmp_path: Path) -> None:
    """OpenSSL would ask on the terminal; nobody sits there at boot."""
    key = serialization.load_pem_private_key(Path(files["key_file"]).read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret"))
    )
    [(name, text)] = file_mistakes(files | {"key_file": str(locked)}, Path("/"))
    assert name == "key_file"
    assert "is locked with a pass phrase" in text


def test_a_damaged_certificate_is_named(files: dict[str, str], tmp_path: Path) -> None:
    """PEM around bytes that are no certificate is a damaged certificate."""
    damaged = tmp_path / "ca.pem"
    damaged.write_text(Path(files["ca_file"]).read_text().replace("MII", "MAA", 1))
    [(key, text)] = file_mistakes(files | {"ca_file": str(damaged)}, Path("/"))
    assert key == "ca_file"
    assert "holds a damaged certificate" in text


def test_a_certificate_without_its_key_is_a_mistake(files: dict[str, str]) -> None:
    """Both belong together, whichever is there."""
    del files["key_file"]
    assert file_mistakes(files, Path("/")) == [("certificate_file", "given without key_file: both belong together")]


def test_an_empty_password_file_is_a_mistake(tmp_path: Path) -> None:
    """A secret stands in the first line of its file; a password needs a user name."""
    (tmp_path / "password").write_text("\nsecret\n")
    found = file_mistakes({"password_file": "password"}, tmp_path)
    assert found == [
        ("password_file", f"{tmp_path / 'password'} is empty: its first line must be the password"),
        ("password_file", "given without username_file: both belong together"),
    ]


@pytest.mark.platform_specific("root reads everything, so somebody else has to try")
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs Linux and root, to become somebody else")
def test_an_unreadable_key_is_named_with_the_user_who_may_not(files: dict[str, str], tmp_path: Path) -> None:
    """A key of another user's, with mode 0600, is said to be unreadable for this one."""
    place = tmp_path / "x"
    place.mkdir()
    for directory in (place, *place.parents[:3]):
        directory.chmod(0o755)
    key = place / "center.key"
    key.write_bytes(Path(files["key_file"]).read_bytes())
    key.chmod(0o600)
    code = (
        "import os, sys; from pathlib import Path; from kerege_agent.settings_files import file_mistakes\n"
        "os.setgroups([]); os.setresuid(*[65534] * 3)\n"  # now that the code is loaded, from wherever this user may not go
        "print(file_mistakes({'key_file': sys.argv[1]}, Path('/'))[0])"
    )
    command = [sys.executable, "-c", code, str(key)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert f"{key} may not be read by the agent (user 65534)" in done.stdout, done.stderr


def test_dates_are_doubts_and_stop_nothing(files: dict[str, str], tmp_path: Path) -> None:
    """A clock ten years ahead makes every certificate look expired; the agent starts all the same, and says so."""
    later = (datetime.now(UTC) + timedelta(days=5000)).timestamp()
    doubts = file_doubts(files, Path("/"), now_s=later)
    assert [key for key, _ in doubts] == ["ca_file", "certificate_file"]
    assert all("expired on" in text for _, text in doubts)
    assert file_mistakes(files, Path("/")) == []


def test_a_clock_that_stands_before_the_certificate_is_a_doubt(files: dict[str, str]) -> None:
    """With a dead clock battery it is 1970."""
    assert ["valid from" in text for _, text in file_doubts(files, Path("/"), now_s=0.0)] == [True, True]


def test_dates_are_read_as_openssl_reads_them(certificates: Certificates) -> None:
    """The two dates of a certificate, from its bytes."""
    pem = certificates.ca.read_text()
    known = x509.load_pem_x509_certificate(pem.encode())
    assert validity(pem) == (known.not_valid_before_utc, known.not_valid_after_utc)


@pytest.mark.parametrize("length", [0, 1, 2, 30, 100, 200])
def test_bytes_that_are_no_certificate_raise_what_is_promised(certificates: Certificates, length: int) -> None:
    """A certificate that ends early is no other trouble than ValueError or IndexError."""
    der = ssl.PEM_cert_to_DER_cert(certificates.ca.read_text())[:length]
    with pytest.raises((ValueError, IndexError)):
        validity(ssl.DER_cert_to_PEM_cert(der))


def test_doubts_are_told_on_stderr_and_the_settings_on_stdout(files: dict[str, str], tmp_path: Path) -> None:
    """The checking process exits 0 with an expired certificate."""
    lines = "\n".join(f'{key} = "{path}"' for key, path in files.items())
    path = settings_file(tmp_path)
    path.write_text(path.read_text().replace("tls = false", f"tls = true\n{lines}"))
    code = (
        "import sys, time; ahead = time.time() + 5000 * 86400; time.time = lambda: ahead\n"
        "from kerege_agent.settings_check import main; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith('{"center": "demo"')
    assert [line.partition(" expired on")[1] for line in done.stderr.splitlines()] == [" expired on"] * 2
