"""An ext4 file system in a file, worked on by e2fsprogs: nothing is mounted, and no root is needed."""

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from xenion.images.failure import RootDiskError
from xenion.images.programs import ProgramError, run

_BANNER = re.compile(r"debugfs \d")
_ENTRY = re.compile(r"/(\d+)/(\d+)/(\d+)/(\d+)/([^/]+)/(\d*)/")
_PLAIN = re.compile(r"/[A-Za-z0-9@+._/-]*")
_MISSING = "File not found by ext2_lookup"


class Ext4Error(RootDiskError):
    """A file system cannot be worked on."""


@dataclass(frozen=True, slots=True)
class File:
    """What is written into a file system: root's, a regular file unless `mode` says that it is a folder."""

    content: bytes = b""
    mode: int = 0o644

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)


FOLDER = File(mode=stat.S_IFDIR | 0o755)


class FileSystem:
    """The file system in the file `image`; `scratch` is a folder for small files on their way.

    Every call may raise Ext4Error or ProgramError.
    """

    def __init__(self, image: Path, scratch: Path) -> None:
        self._image = image.absolute()
        self._scratch = scratch.absolute()

    def names(self, folder: str) -> list[str]:
        """What is in `folder`, but for . and .., sorted."""
        listed = (_ENTRY.fullmatch(line) for line in self._ask(f"ls -p {_checked(folder)}").splitlines())
        return sorted(entry[5] for entry in listed if entry and entry[5] not in (".", ".."))

    def mode(self, path: str) -> int | None:
        """Type and permissions as `os.stat` has them; None where nothing is."""
        parent, name = str(PurePosixPath(path).parent), PurePosixPath(path).name
        try:
            listed = self._ask(f"ls -p {_checked(parent)}")
        except ProgramError as error:
            if _MISSING in str(error):
                return None
            raise
        for line in listed.splitlines():
            entry = _ENTRY.fullmatch(line)
            if entry and entry[5] == name:
                return int(entry[2], 8)
        return None

    def read(self, path: str) -> bytes:
        """The content of a regular file."""
        out = self._scratch / "read"
        out.unlink(missing_ok=True)
        self.dump(path, out)
        content = out.read_bytes()
        out.unlink()
        return content

    def dump(self, path: str, out: Path) -> None:
        """Writes the content of a regular file to the host's file `out`, which is made."""
        holder = self._scratch / "dump"
        holder.unlink(missing_ok=True)
        self._ask(f"dump {_checked(path)} dump")
        if not holder.exists():
            raise Ext4Error(f"There is no {path} in {self._image}.")
        holder.rename(out)

    def write(self, files: Mapping[str, File | None]) -> None:
        """Puts files and folders in their place, in their order; None removes one that may be there.

        A folder is made if it is missing, and gets the mode either way. The folder of a file must be there.
        """
        commands: list[str] = []
        sources: list[Path] = []
        for number, (path, file) in enumerate(files.items()):
            checked = _checked(path)
            if checked == "/":
                raise Ext4Error("The root of a file system is no file that can be written.")
            there = self.mode(path) is not None
            if file is None or not file.is_folder:
                commands += [f"rm {checked}"] if there else []
            if file is None:
                continue
            if file.is_folder:
                commands += [] if there else [f"mkdir {checked}"]
            else:
                sources.append(self._scratch / f"in{number}")
                sources[-1].write_bytes(file.content)
                parent = PurePosixPath(path)
                commands += [f"cd {parent.parent}", f"write in{number} {parent.name}", "cd /"]
            kind = stat.S_IFMT(file.mode) or stat.S_IFREG
            commands += [
                f"sif {checked} mode 0{kind | stat.S_IMODE(file.mode):o}",
                f"sif {checked} uid 0",
                f"sif {checked} gid 0",
            ]
        script = self._scratch / "script"
        script.write_text("".join(f"{command}\n" for command in commands))
        self._debugfs("-w", "-f", "script")
        for leftover in [script, *sources]:
            leftover.unlink()

    def resize(self, size: int) -> None:
        """Makes the file and its file system `size` bytes large; Ext4Error if what is in it needs more."""
        present = self._image.stat().st_size
        if size > present:
            with self._image.open("r+b") as file:
                file.truncate(size)
        if size != present:
            # The new inode tables are made now, or the guest's kernel would fill them with zeros at its first boot.
            settings = {"RESIZE2FS_FORCE_ITABLE_INIT": "1"}
            command = ["resize2fs", str(self._image), f"{size // 1024}K"]
            run(command, folder=self._scratch, more=settings)
        if size > present:
            # They were allocated on the host for that. A copy has holes there.
            copied = self._scratch / "copied"
            run(
                ["cp", "--reflink=never", "--sparse=auto", "--", str(self._image), "copied"],
                folder=self._scratch,
            )
            copied.replace(self._image)
        if size < present:
            with self._image.open("r+b") as file:
                file.truncate(size)

    def smallest(self) -> int:
        """Bytes below which `resize` cannot go, by e2fsprogs' estimate."""
        said = run(["resize2fs", "-P", str(self._image)], folder=self._scratch)
        found = re.search(r"minimum size of the filesystem: (\d+)", said)
        if not found:
            raise Ext4Error(f"resize2fs does not tell how small {self._image} can be.")
        return int(found[1]) * self.header("Block size")

    def header(self, field: str) -> int:
        """A number of the superblock, as dumpe2fs calls it."""
        said = run(["dumpe2fs", "-h", str(self._image)], folder=self._scratch)
        found = re.search(rf"^{re.escape(field)}:\s+(\d+)$", said, re.MULTILINE)
        if not found:
            raise Ext4Error(f"dumpe2fs tells no {field} of {self._image}.")
        return int(found[1])

    def identify(self, uuid: str) -> None:
        """Gives the file system another UUID."""
        run(["tune2fs", "-U", uuid, str(self._image)], folder=self._scratch)

    def check(self) -> None:
        """ProgramError if anything in it is wrong; changes nothing."""
        run(["e2fsck", "-f", "-n", str(self._image)], folder=self._scratch)

    def _ask(self, command: str) -> str:
        return self._debugfs("-R", command)

    def _debugfs(self, *arguments: str) -> str:
        """Its status is 0 whatever happens: what it complains about is told on stderr, with a banner."""
        command = 'exec debugfs "$@" 2>complaints'
        said = run(["sh", "-c", command, "sh", *arguments, str(self._image)], folder=self._scratch)
        complaints = (self._scratch / "complaints").read_text(errors="replace").splitlines()
        (self._scratch / "complaints").unlink()
        wrong = [line for line in complaints if line.strip() and not _BANNER.match(line)]
        if wrong:
            raise ProgramError(f"debugfs has failed: {wrong[0].strip()}")
        return said


def _checked(path: str) -> str:
    """debugfs splits its commands at blanks."""
    if not _PLAIN.fullmatch(path) or ".." in PurePosixPath(path).parts:
        raise Ext4Error(f"{path!r} is no path that debugfs takes.")
    return path
