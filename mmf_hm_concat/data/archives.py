"""Unpacking tar and zip archives that somebody else made, trusting nothing they say."""

import logging
import posixpath
import re
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, NamedTuple

from tqdm import tqdm

from mmf_hm_concat.errors import InputError, printable
from mmf_hm_concat.utils.private import ELSEWHERE

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

logger = logging.getLogger("mmf_hm_concat")

MAX_FILES = 200_000  # the competition has 12,140 images
MAX_BYTES = 64 << 30  # the competition has 4.6 GB
# Images are compressed as they are, so their archive is about as large. From SMALL on, one that
# grows by more than MAX_RATIO is a bomb.
MAX_RATIO, SMALL = 100, 256 << 20
ROOM_LEFT = 1 << 30  # on the disk, for everybody else
_BLOCK = 1 << 20
_AES = 99  # the compression method that a zip notes for AES-encrypted members
_LONG_HEADERS = {
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
}


class _Member(NamedTuple):
    name: str
    wrong_kind: str | None  # None for files and folders
    is_folder: bool
    is_encrypted: bool
    size: int  # as the archive says: it may lie
    open: Callable[[], IO[bytes]]


def extract(
    archive: Path,
    into: Path,
    *,
    password: str | None = None,
    max_files: int = MAX_FILES,
    max_bytes: int = MAX_BYTES,
) -> int:
    """Unpack a tar (also .gz, .bz2, .xz) or zip archive into a folder; show a progress bar.

    Args:
        archive: the file; its first bytes, not its name, tell tar from zip.
        into: an existing empty folder. When this function raises, it holds a part of the
            archive: the caller throws it away.
        password: for encrypted zips. It appears in no message.
        max_files: how many members (files and folders) are allowed.
        max_bytes: how many unpacked bytes are allowed, as counted while writing.

    Returns:
        The number of files written.

    Raises:
        InputError: one line that names the archive, and the member where there is one: an
            absolute name or one with "..", a link, a device or pipe, a name given twice, too
            many members or bytes, bytes that the archive's size or the disk's room does not
            allow, a damaged or cut archive, a missing or wrong password.
    """
    member: _Member | None = None
    files = 0
    try:
        with (
            archive.open("rb") as raw,
            # disable=None: no bar where nobody watches (logs, tests)
            tqdm(
                total=archive.stat().st_size,
                desc=f"unpacking {printable(archive.name)}",
                unit="B",
                unit_scale=True,
                disable=None,
            ) as bar,
        ):
            is_zip = raw.read(2) == b"PK"
            raw.seek(0)
            members = _zip_members(raw, password) if is_zip else _tar_members(raw, max_bytes)
            left, why = _bytes_allowed(archive, into, max_bytes)
            for member in _checked(members, archive, password, max_files):
                target = into / posixpath.normpath(member.name)
                if member.is_folder:
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                if member.size > left:
                    raise _refused(archive, member, why)
                target.parent.mkdir(parents=True, exist_ok=True)
                with member.open() as source, target.open("xb") as file:
                    while block := source.read(_BLOCK):
                        left -= len(block)
                        if left < 0:
                            raise _refused(archive, member, why)
                        file.write(block)
                        bar.update(raw.tell() - bar.n)
                files += 1
    except InputError:
        raise
    except Exception as error:  # whatever the parsers trip over, it is the archive's content
        raise _explained(error, archive, member) from error
    return files


def _checked(
    members: Iterator[_Member], archive: Path, password: str | None, max_files: int
) -> Iterator[_Member]:
    """The members, up to the first that is refused by its number, kind, name or encryption."""
    seen: dict[str, bool] = {}  # normalised name -> is a folder
    for number, member in enumerate(members, 1):
        if number > max_files:
            raise _refused(archive, member, f"over {max_files} members")
        name = posixpath.normpath(member.name)
        wrong = member.wrong_kind or _wrong_name(member.name)
        if name in seen and not (member.is_folder and seen[name]):
            wrong = wrong or "its name is given twice"
        if wrong:
            raise _refused(archive, member, wrong)
        if member.is_encrypted and not member.is_folder and not password:
            raise InputError(
                f"{archive}: {member.name!r} is encrypted: set "
                "dataset_config.hm_competition.zip_password or the environment variable "
                "HM_ZIP_PASSWORD, or unpack the archive by hand and give the folder."
            )
        seen[name] = member.is_folder
        yield member


def _bytes_allowed(archive: Path, into: Path, max_bytes: int) -> tuple[int, str]:
    """How many bytes may be unpacked, and what is wrong when there are more."""
    free = shutil.disk_usage(into).free
    return min(
        (max_bytes, f"over {max_bytes} bytes unpacked"),
        (
            max(SMALL, MAX_RATIO * archive.stat().st_size),
            f"unpacked, it is over {MAX_RATIO} times as large as packed, which images never are",
        ),
        (
            max(0, free - ROOM_LEFT),
            f"the disk has no room for it ({free / 1e9:,.1f} GB free, of which 1 GB is left to "
            "others): free some, or set dataset_config.hm_competition.cache_dir to another disk",
        ),
    )


def _refused(archive: Path, member: _Member, why: str) -> InputError:
    return InputError(f"{archive}: {member.name!r} refused: {why}.")


def _explained(error: Exception, archive: Path, member: _Member | None) -> InputError:
    """The message for an exception of the parsers or of the disk, at a member or before all."""
    at = f"{archive}: {member.name!r}" if member else str(archive)
    if isinstance(error, NotImplementedError):
        return InputError(
            f"{at} cannot be read by Python ({error}): unpack the archive by hand (as with 7z x) "
            "and give the folder."
        )
    if isinstance(error, OSError) and error.errno is not None:  # not BadGzipFile and its like
        return InputError(
            f"{at} cannot be unpacked: {error}. It needs room in the cache folder. {ELSEWHERE}"
        )
    # Only the first line: tarfile lists every compression that it tried.
    why = str(error).partition("\n")[0].rstrip(":")
    if member and member.is_encrypted:
        blame, remedy = "the password is wrong or the archive", "check the password, or "
    else:
        blame, remedy = "the archive", ""
    return InputError(f"{at}: {blame} is damaged or cut off ({why}): {remedy}download it again.")


def _wrong_name(name: str) -> str | None:
    parts = name.replace("\\", "/").split("/")
    if parts[0] == "" or re.match("[A-Za-z]:", name):
        return "its name is absolute"
    if ".." in parts:
        return "its name has '..' in it"
    return "its name has a zero byte in it" if "\0" in name else None


class _StrictTarInfo(tarfile.TarInfo):
    """A tar header. tarfile takes a damaged or missing one for the archive's end; we do not."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "Self":
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise  # the proper end mark
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> "Self":
        header = super().frombuf(buf, encoding, errors)
        if header.type in _LONG_HEADERS and header.size > _BLOCK:  # tarfile reads it into memory
            raise tarfile.ReadError("a header of over one megabyte")
        return header


def _tar_members(raw: BinaryIO, max_bytes: int) -> Iterator[_Member]:
    with tarfile.open(fileobj=raw, mode="r:*", tarinfo=_StrictTarInfo) as archive:
        for member in archive:
            wrong = None
            if member.issym() or member.islnk():
                wrong = "links are not allowed"
            elif not (member.isfile() or member.isdir()):
                wrong = "it is neither a file nor a folder"
            elif not _wrong_name(member.name) and hasattr(tarfile, "data_filter"):
                try:  # Python's own judgement, from 3.10.12 on, besides ours
                    tarfile.data_filter(member, "/nowhere")
                except tarfile.FilterError as error:
                    wrong = str(error)

            def content(member: tarfile.TarInfo = member) -> IO[bytes]:
                return archive.extractfile(member)  # type: ignore[return-value]

            yield _Member(member.name, wrong, member.isdir(), False, member.size, content)
        # Read on to the end: only there does gzip compare its checksum.
        rest = 0
        while block := archive.fileobj.read(_BLOCK):
            rest += len(block)
            if rest > max_bytes:
                raise tarfile.ReadError(f"over {max_bytes} bytes after the end mark")


def _noted_count(raw: BinaryIO) -> int:
    """The number of members that a zip's end record notes; 0xFFFF stands for larger ones."""
    raw.seek(max(0, raw.seek(0, 2) - (1 << 16) - 22))  # the record and its longest comment
    tail = raw.read()
    place = tail.rfind(b"PK\5\6") + 10
    return int.from_bytes(tail[place : place + 2], "little")


def _zip_members(raw: BinaryIO, password: str | None) -> Iterator[_Member]:
    with zipfile.ZipFile(raw) as archive:
        if _noted_count(raw) not in (len(archive.infolist()) & 0xFFFF, 0xFFFF):
            raise zipfile.BadZipFile("members are missing")  # zipfile itself does not count
        if password:
            archive.setpassword(password.encode())
        if any(m.flag_bits & 1 and m.compress_type != _AES for m in archive.infolist()):
            logger.warning(
                "%s is encrypted, and Python decrypts slowly, byte by byte. Unpacking it by "
                "hand and giving the folder is far faster.",
                raw.name,
            )
        for member in archive.infolist():
            mode = member.external_attr >> 16
            wrong = None
            if stat.S_ISLNK(mode):
                wrong = "links are not allowed"
            elif stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                wrong = "it is neither a file nor a folder"
            elif member.compress_type == _AES:
                wrong = (
                    "Python cannot read its AES encryption; unpack the archive by hand (as with "
                    "7z x) and give the folder"
                )

            def content(member: zipfile.ZipInfo = member) -> IO[bytes]:
                return archive.open(member)

            # zipfile cuts `filename` at a zero byte; the name in full is `orig_filename`
            name = member.orig_filename if "\0" in member.orig_filename else member.filename
            encrypted = bool(member.flag_bits & 1)
            yield _Member(name, wrong, member.is_dir(), encrypted, member.file_size, content)
