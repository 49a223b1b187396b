"""xend.toml: every mistake is one sentence that names the file."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from xenion.xend import settings
from xenion.xend.networks.defined import Kind, Network, UserNetwork
from xenion.xend.settings import Migration, Settings, SettingsError, Tcp

TLS = 'certificate = "c.pem"\nkey = "k.pem"\nca = "ca.pem"\n'
TCP = '[tcp]\nlisten = "{listen}"\ncertificate = "c.pem"\nkey = "k.pem"\ntoken = "token"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    for name, text in (("c.pem", ""), ("k.pem", ""), ("token", "kingfisher-87-kingfisher\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    return tmp_path / "xend.toml"


def test_no_file_no_tcp(tmp_path: Path) -> None:
    assert settings.read(tmp_path / "xend.toml") == Settings(None)
    (tmp_path / "xend.toml").write_text("# nothing\n")
    assert settings.read(tmp_path / "xend.toml") == Settings(None)


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [("127.0.0.1:8006", "127.0.0.1", 8006), ("[::1]:1", "::1", 1), ("h:65535", "h", 65535)],
)
def test_tcp(file: Path, listen: str, host: str, port: int) -> None:
    file.write_text(TCP.format(listen=listen))
    at = file.parent
    assert settings.read(file) == Settings(
        Tcp(host, port, at / "c.pem", at / "k.pem", "kingfisher-87-kingfisher")
    )


@pytest.mark.parametrize("listen", ["", "h", ":1", "h:", "h:x", "h:0", "h:65536", "h:-1", "h:" + "9" * 5000])
def test_addresses_that_are_none(file: Path, listen: str) -> None:
    file.write_text(TCP.format(listen=listen))
    with pytest.raises(SettingsError, match=r"tcp\.listen") as caught:
        settings.read(file)
    assert str(caught.value).startswith(f"{file}: ")


def test_networks(file: Path) -> None:
    file.write_text(
        'user_network = "slirp"\nhost_loopback = true\n[networks.lan]\nkind = "bridge"\nbridge = "br0"\n'
    )
    found = settings.read(file)
    assert found.user_network == UserNetwork("slirp", host_loopback=True)
    assert found.networks == {"lan": Network("lan", Kind.BRIDGE, "br0")}
    assert settings.read(file.with_name("none")).user_network == UserNetwork("auto", host_loopback=False)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[tcp", "xend.toml: "),
        ("tcp = 3", "must be a table"),
        ("[http]", "http is not known: there is tcp, migration, user_network, host_loopback, networks"),
        ("user_network = 3", "user_network must be one of auto, passt, slirp"),
        ('user_network = "none"', "user_network must be one of auto, passt, slirp"),
        ("host_loopback = 1", "host_loopback must be true or false"),
        ("networks = 3", "[networks] must be tables"),
        ("[networks.lan]", "networks.lan.kind must be one of"),
        ("[tcp]\nport = 3", "tcp.port is not known"),
        ("[tcp]\nlisten = 3", "tcp.listen is missing"),
        ('[tcp]\nlisten = "h:1"', "tcp.certificate is missing"),
    ],
)
def test_keys_that_are_wrong(file: Path, text: str, says: str) -> None:
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        settings.read(file)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text(file: Path) -> None:
    file.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match=r"xend\.toml"):
        settings.read(file)
    file.unlink()
    file.mkdir()
    with pytest.raises(SettingsError, match="Is a directory"):
        settings.read(file)


@pytest.mark.parametrize("name", ["k.pem", "token"])
def test_secrets_are_secret(file: Path, name: str) -> None:
    file.write_text(TCP.format(listen="h:1"))
    (file.parent / name).chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        settings.read(file)
    (file.parent / name).unlink()
    with pytest.raises(SettingsError, match="No such file"):
        settings.read(file)


@pytest.mark.parametrize(
    "word", [b"short", b"two words that are long", b"\xff" * 20, "überall-überall-ü".encode()]
)
def test_tokens_that_are_none(file: Path, word: bytes) -> None:
    file.write_text(TCP.format(listen="h:1"))
    (file.parent / "token").write_bytes(word)
    with pytest.raises(SettingsError, match="token"):
        settings.read(file)


# --- migration


def test_no_table_nobody_comes(file: Path) -> None:
    file.write_text("")
    assert settings.read(file).migration == Migration("", 0, (), None, None, None)
    file.write_text("[migration]\n")
    assert settings.read(file).migration == Migration()


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [("0.0.0.0:8002", "0.0.0.0", 8002), ("[::]:8003", "::", 8003), ("h:65535", "h", 65535)],
)
def test_who_may_send_domains(file: Path, listen: str, host: str, port: int) -> None:
    allow = ["192.0.2.0/24", "198.51.100.7", "2001:db8::/32", "::1"]
    file.write_text(f'[migration]\nlisten = "{listen}"\nallow = {allow}\n')
    networks = tuple(ip_network(one) for one in allow)
    assert settings.read(file).migration == Migration(host, port, networks)


def test_how_ssh_is_called(file: Path) -> None:
    file.write_text("[migration]\nssh = 'ssh -i \"/a key\" -v'\n")
    assert settings.read(file).migration == Migration(ssh=("ssh", "-i", "/a key", "-v"))
    file.write_text(f"[migration]\nssh = 'other'\n{TLS}")
    assert settings.read(file).migration.ssh == ("other",)


@pytest.mark.parametrize("listen", ['listen = "h:1"\n', ""])
@pytest.mark.parametrize("allow", ['allow = ["192.0.2.0/24"]\n', "allow = []\n", ""])
def test_migration_through_tls(file: Path, listen: str, allow: str) -> None:
    """Also for domains that only leave."""
    file.write_text(f"[migration]\n{listen}{allow}{TLS}")
    found, at = settings.read(file).migration, file.parent
    assert (found.certificate, found.key, found.ca) == (at / "c.pem", at / "k.pem", at / "ca.pem")
    assert (found.host, found.port) == (("h", 1) if listen else ("", 0))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("migration = 3", "[migration] must be a table"),
        (
            "[migration]\nport = 3",
            "migration.port is not known: there is listen, allow, ssh, certificate, key, ca",
        ),
        ("[migration]\nlisten = 8002", "migration.listen must be text"),
        ("[migration]\nssh = 7", "migration.ssh must be text"),
        ('[migration]\nssh = " "', "migration.ssh must be a command"),
        ('[migration]\nssh = "ssh \\"a"', "migration.ssh: No closing quotation"),
        ('[migration]\nlisten = ""', "migration.listen must be text"),
        ('[migration]\nlisten = "h"\nallow = ["::1"]', 'migration.listen must be ADDRESS:PORT, not "h"'),
        ('[migration]\nlisten = "h:0"\nallow = ["::1"]', "migration.listen must be ADDRESS:PORT"),
        ('[migration]\nlisten = "h:65536"\nallow = ["::1"]', "migration.listen must be ADDRESS:PORT"),
        ('[migration]\nlisten = ":1"\nallow = ["::1"]', "migration.listen must be ADDRESS:PORT"),
        ('[migration]\nlisten = "h:1"', "migration.allow must name who may send domains here"),
        ('[migration]\nlisten = "h:1"\nallow = []', "migration.allow must name who may send domains here"),
        ('[migration]\nallow = "192.0.2.0/24"', "migration.allow must be a list"),
        ("[migration]\nallow = 7", "migration.allow must be a list"),
        ("[migration]\nallow = [7]", "migration.allow: 7 is no address or network: write it as text"),
        ("[migration]\nallow = [true]", "migration.allow: True is no address or network"),
        ('[migration]\nallow = [["::1"]]', "is no address or network"),
        ('[migration]\nallow = ["here"]', "migration.allow: 'here' does not appear to be"),
        ('[migration]\nallow = [""]', "migration.allow: "),
        ('[migration]\nallow = ["192.0.2.7/24"]', "migration.allow: 192.0.2.7/24 has host bits set"),
        ('[migration]\nallow = ["192.0.2.0/33"]', "migration.allow: "),
        (
            '[migration]\ncertificate = "c.pem"',
            "TLS needs all of migration.certificate, migration.key, migration.ca",
        ),
        ('[migration]\nca = "c.pem"\nkey = "k.pem"', "TLS needs all of migration.certificate"),
        ("[migration]\nkey = 7", "migration.key must be text"),
        ('[migration]\nca = ""', "migration.ca must be text"),
    ],
)
def test_migrations_that_are_wrong(file: Path, text: str, says: str) -> None:
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        settings.read(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_key_of_migrations_is_secret(file: Path) -> None:
    file.write_text(f"[migration]\n{TLS}")
    (file.parent / "k.pem").chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        settings.read(file)
    (file.parent / "k.pem").unlink()
    with pytest.raises(SettingsError, match="No such file"):
        settings.read(file)
