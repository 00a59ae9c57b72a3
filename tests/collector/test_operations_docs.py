"""What docs/operations.md tells people to type does what it says."""

import re
import ssl
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from kerege_collector.database_postgresql import Access, PostgresqlDatabase
from kerege_collector.ledger import Ledger
from kerege_lab.postgresql import PostgreSQL, find_postgresql
from kerege_lab.servers import HOST

TEXT: Final = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
BROKER: Final = "kerege.example.kz"
CENTER: Final = "ulan-bozanbay"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the recipe makes."""
    directory = tmp_path_factory.mktemp("pki")
    recipe = re.search(r"^## Certificates.*?```bash\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE)
    assert recipe is not None
    done = subprocess.run(["bash", "-euc", recipe[1]], cwd=directory, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return directory


def test_the_database_of_the_recipe_is_one_and_its_backup_another(postgresql: PostgreSQL, tmp_path: Path) -> None:
    """The SQL makes what the collector needs; what pg_dump has saved, pg_restore brings back, and it may be written."""
    name = "kerege_of_the_docs"
    recipe = re.search(r"^### The ledger in PostgreSQL.*?```sql\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE)
    assert recipe is not None
    for statement in recipe[1].replace("kerege", name).replace("...", "secret").split(";\n")[:2]:
        postgresql.execute(statement)
    access = Access(HOST, postgresql.port, name, name, lambda: "secret", "disable")
    with closing(Ledger(PostgresqlDatabase(access))) as ledger:
        ledger.set_meta("said", "before the backup")
    dump = re.search(r"`(pg_dump [^`]*) kerege`", TEXT)
    restore = re.search(r"`(pg_restore [^`]*)`", TEXT)
    assert dump is not None
    assert restore is not None
    file = tmp_path / "ledger.dump"
    run_client([*dump[1].split(), "--file", str(file), postgresql.conninfo(name)])
    postgresql.drop(name)
    postgresql.execute(recipe[1].replace("kerege", name).split(";\n")[1])
    run_client([*restore[1].replace("kerege", name).split(), "--dbname", postgresql.conninfo(name), str(file)])
    with closing(Ledger(PostgresqlDatabase(access), may_make=False)) as ledger:
        assert ledger.meta("said") == "before the backup"
        ledger.set_meta("said", "after it")
    postgresql.drop(name)
    postgresql.execute(f"DROP ROLE {name}")


def run_client(command: list[str]) -> None:
    """One of PostgreSQL's programs."""
    done = subprocess.run([str(find_postgresql(command[0])), *command[1:]], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def shaken_hands(pki: Path, server_name: str) -> dict[str, Any]:
    """A TLS handshake of a center with the broker; the certificate that the broker sees. Raises ssl.SSLError."""
    broker = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki / "ca.pem"))
    broker.load_cert_chain(pki / "broker.pem", pki / "broker.key")
    broker.verify_mode = ssl.CERT_REQUIRED
    center = ssl.create_default_context(cafile=str(pki / "ca.pem"))
    center.load_cert_chain(pki / f"{CENTER}.pem", pki / f"{CENTER}.key")
    center.hostname_checks_common_name = False
    to_broker, to_center = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        center.wrap_bio(to_center, to_broker, server_hostname=server_name),
        broker.wrap_bio(to_broker, to_center, server_side=True),
    ]
    for end in ends * 3:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return dict(ends[1].getpeercert() or {})


def test_the_certificates_of_the_recipe_let_a_center_and_the_broker_know_each_other(pki: Path) -> None:
    """The broker by its alternative name, which alone counts (RFC 9525); the center by its common name, which is its id."""
    seen = shaken_hands(pki, BROKER)
    assert (("commonName", CENTER),) in seen["subject"]


def test_the_certificates_of_the_recipe_are_of_no_other_host(pki: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for 'other"):
        shaken_hands(pki, "other.example.kz")
