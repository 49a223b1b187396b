"""What makes a root disk somebody's: its host name, who may log in; as files for its file system."""

import ctypes
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xenion.images.ext4 import FOLDER, File
from xenion.images.failure import RootDiskError, WrongRequestError
from xenion.images.guestfiles import AUTOLOGIN, AUTOLOGIN_TEXT

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_KEY = re.compile(r"(?:ssh|ecdsa|sk)-[A-Za-z0-9@.-]+ +[A-Za-z0-9+/]{20,}={0,3}(?: .*)?")
_KEYS_MOST_BYTES = 1 << 20
_USUAL = ("id_ed25519.pub", "id_ecdsa.pub", "id_ecdsa_sk.pub", "id_ed25519_sk.pub", "id_rsa.pub")


class PersonalError(WrongRequestError):
    """A host name or a key that cannot be."""


class PasswordError(RootDiskError):
    """A password cannot be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Personal:
    """Checked when made: PersonalError. `keys` are lines of authorized_keys, for root."""

    hostname: str
    keys: tuple[str, ...] = ()
    password: str | None = field(default=None, repr=False)
    """Root's on the console; None: the console logs root in."""

    def __post_init__(self) -> None:
        if not _HOST_NAME.fullmatch(self.hostname):
            raise PersonalError(
                f"{self.hostname!r} is no host name: letters, digits and dashes, at most 63, make one."
            )
        for key in self.keys:
            if not key.isprintable() or not _KEY.fullmatch(key):
                raise PersonalError(f"{key[:40]!r} is no public SSH key: one begins with `ssh-ed25519 AAAA`.")
        if self.password is not None and (
            not self.password or "\n" in self.password or "\0" in self.password
        ):
            raise PersonalError("The password is empty or more than a line.")


def host_name_of(name: str) -> str:
    """The host name that comes nearest to the name of an image."""
    return re.sub(r"[^A-Za-z0-9-]", "-", name).strip("-")[:63].strip("-") or "debian"


def read_keys(words: Sequence[str]) -> tuple[str, ...]:
    """The public keys in `words`, each a key itself or the name of a file of keys. PersonalError."""
    keys: list[str] = []
    for word in words:
        if _KEY.fullmatch(word.strip()):
            keys.append(word.strip())
        else:
            keys += _keys_in(Path(word).expanduser())
    return tuple(dict.fromkeys(keys))


def usual_keys() -> tuple[str, ...]:
    """The public keys that ssh would log this user in with."""
    try:
        folder = Path.home() / ".ssh"
    except RuntimeError:
        return ()
    return read_keys([str(folder / name) for name in _USUAL if (folder / name).is_file()])


def _keys_in(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_KEYS_MOST_BYTES)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise PersonalError(
            f"{str(path)!r} is neither a public SSH key nor a file with one: {why}."
        ) from error
    if "PRIVATE KEY-----" in text:
        raise PersonalError(f"{path} is a private key, which belongs in no image: give the file {path}.pub.")
    keys = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not keys:
        raise PersonalError(f"{path} holds no public SSH key.")
    return keys


def files(personal: Personal, uuid: str, shadow: bytes) -> dict[str, File | None]:
    """What is to be written into the file system with this UUID, whose /etc/shadow is `shadow`."""
    name = personal.hostname
    written: dict[str, File | None] = {
        "/etc/hostname": File(f"{name}\n".encode()),
        "/etc/hosts": File(f"127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost ip6-localhost\n".encode()),
        "/etc/fstab": File(f"UUID={uuid} / ext4 errors=remount-ro 0 1\n".encode()),
    }
    if personal.keys:
        lines = "".join(f"{key}\n" for key in personal.keys)
        written["/root/.ssh"] = File(mode=stat.S_IFDIR | 0o700)
        written["/root/.ssh/authorized_keys"] = File(lines.encode(), 0o600)
    if personal.password is None:
        written[str(Path("/", AUTOLOGIN).parent)] = FOLDER
        written[f"/{AUTOLOGIN}"] = File(AUTOLOGIN_TEXT.encode())
    else:
        written["/etc/shadow"] = File(_with_password(shadow, encrypted(personal.password)), 0o640)
    return written


def _with_password(shadow: bytes, hashed: str) -> bytes:
    lines = shadow.decode().splitlines()
    for number, line in enumerate(lines):
        user, _, rest = line.split(":", 2)
        if user == "root":
            lines[number] = f"root:{hashed}:{rest}"
            return "".join(f"{line}\n" for line in lines).encode()
    raise PasswordError("The new system has no root in /etc/shadow.")


def encrypted(password: str) -> str:
    """The hash of a password as /etc/shadow has it, by the host's own libcrypt. PasswordError."""
    try:
        library = ctypes.CDLL("libcrypt.so.1")
        salt, crypt = library.crypt_gensalt, library.crypt
    except (OSError, AttributeError) as error:
        raise PasswordError(
            "There is no libcrypt.so.1 here that hashes passwords: leave the password out."
        ) from error
    salt.argtypes = [ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_int]
    crypt.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    salt.restype = crypt.restype = ctypes.c_char_p
    setting = salt(b"$y$", 0, None, 0)
    hashed: bytes | None = crypt(password.encode(), setting) if setting else None
    if not hashed or not hashed.startswith(b"$y$"):
        raise PasswordError("This host's libcrypt cannot hash the password.")
    return hashed.decode()
