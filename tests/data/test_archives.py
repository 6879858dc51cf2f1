"""Archives by a stranger: what is honest is unpacked, all else is refused with one clear line."""

import collections
import gzip
import io
import random
import stat
import tarfile
import zipfile

import pytest
from zipcrypto import encrypted_zip

from mmf_hm_concat.data import archives
from mmf_hm_concat.data.archives import extract
from mmf_hm_concat.errors import InputError

IMAGES = {"img/01236.png": b"one" * 5000, "img/01243.png": b"two" * 5000}


def tar_with(path, *members, mode="w:gz"):
    """A tar of (name, content) pairs or of (TarInfo, content) pairs."""
    with tarfile.open(path, mode) as archive:
        for member, content in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def zip_with(path, *members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members:
            archive.writestr(member, content)
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def unpack(path, **limits):
    into = path.parent / "into"
    into.mkdir()
    return extract(path, into, **limits), into


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tars_are_unpacked(tmp_path, mode):
    count, into = unpack(tar_with(tmp_path / "a.tar", *IMAGES.items(), mode=mode))
    assert count == 2
    assert contents(into) == IMAGES


def test_zips_are_told_by_content_and_unpacked(tmp_path):
    count, into = unpack(zip_with(tmp_path / "a.tar.gz", ("img/", b""), *IMAGES.items()))
    assert count == 2
    assert contents(into) == IMAGES


def test_folders_given_twice_and_dot_names_are_fine(tmp_path):
    folder = special("./img", tarfile.DIRTYPE)
    again = special("img/", tarfile.DIRTYPE)
    dot = special(".", tarfile.DIRTYPE)
    path = tar_with(tmp_path / "a.tar", (dot, b""), (folder, b""), (again, b""), ("./img/x", b"x"))
    assert contents(unpack(path)[1]) == {"img/x": b"x"}


HOSTILE = {
    "absolute": (("/etc/x", b"x"), "absolute"),
    "parent": (("img/../../x", b"x"), "'..'"),
    "backslash parent": (("img\\..\\..\\x", b"x"), "'..'"),
    "drive": (("C:x", b"x"), "absolute"),
    "backslash root": (("\\x", b"x"), "absolute"),
}
TAR_ONLY = {
    "symbolic link": ((special("x", tarfile.SYMTYPE, "img/01236.png"), b""), "links"),
    "hard link": ((special("x", tarfile.LNKTYPE, "img/01236.png"), b""), "links"),
    "pipe": ((special("x", tarfile.FIFOTYPE), b""), "neither a file nor a folder"),
    "device": ((special("x", tarfile.CHRTYPE), b""), "neither a file nor a folder"),
}


@pytest.mark.parametrize("case", [*HOSTILE, *TAR_ONLY])
def test_hostile_tar_members(tmp_path, case):
    member, why = {**HOSTILE, **TAR_ONLY}[case]
    path = tar_with(tmp_path / "a.tar.gz", *IMAGES.items(), member)
    name = member[0].name if isinstance(member[0], tarfile.TarInfo) else member[0]
    refused(path, repr(name), why)


@pytest.mark.parametrize("case", [*HOSTILE, "link"])
def test_hostile_zip_members(tmp_path, case):
    member, why = {**HOSTILE, "link": ((zip_link("x"), b"/etc"), "links")}[case]
    name = member[0].filename if case == "link" else member[0]
    refused(zip_with(tmp_path / "a.zip", *IMAGES.items(), member), repr(name), why)


def refused(path, *words, **limits):
    with pytest.raises(InputError) as caught:
        unpack(path, **limits)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message
    assert contents(path.parent).keys() <= {path.name, *(f"into/{name}" for name in IMAGES)}
    return message


@pytest.mark.parametrize("twice", ["img/01236.png", "./img//01236.png", "img"])
def test_duplicate_names(tmp_path, twice):
    folder = special("img", tarfile.DIRTYPE)
    members = [(folder, b""), *IMAGES.items(), (twice, b"other")]
    refused(tar_with(tmp_path / "a.tar", *members), repr(twice), "twice")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_names_in_a_zip(tmp_path):
    path = zip_with(tmp_path / "a.zip", *IMAGES.items(), ("img/01236.png", b"other"))
    refused(path, "'img/01236.png'", "twice")


def test_too_many_members(tmp_path):
    path = tar_with(tmp_path / "a.tar", *IMAGES.items())
    refused(path, "'img/01243.png'", "1 members", max_files=1)


def test_too_many_bytes(tmp_path):
    path = zip_with(tmp_path / "a.zip", *IMAGES.items())
    refused(path, "'img/01243.png'", "20000 bytes", max_bytes=20_000)


def test_bytes_are_counted_not_believed(tmp_path):
    """A zip whose header says that its 15,000 bytes are few."""
    path = zip_with(tmp_path / "a.zip", ("img/x", b"one" * 5000))
    data = path.read_bytes()
    path.write_bytes(data.replace((15_000).to_bytes(4, "little"), (9).to_bytes(4, "little")))
    with pytest.raises(InputError):
        unpack(path, max_bytes=100)
    assert sum(map(len, contents(tmp_path / "into").values())) <= 100


@pytest.mark.parametrize("kind", ["zip", "lying zip", "tar"])
def test_a_bomb_is_refused_by_how_much_it_grows(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(archives, "SMALL", 1000)
    honest, bomb = random.Random(0).randbytes(20_000), bytes(30 << 20)
    members = (("img/01236.png", honest), ("img/bomb.png", bomb))
    if kind == "tar":
        path = tar_with(tmp_path / "a.tar.gz", *members)
    else:
        path = zip_with(tmp_path / "a.zip", *members)
    if kind == "lying zip":
        size = len(bomb).to_bytes(4, "little")
        path.write_bytes(path.read_bytes().replace(size, (9).to_bytes(4, "little")))
        with pytest.raises(InputError):
            unpack(path)
    else:
        with pytest.raises(InputError, match=r"'img/bomb\.png' refused: .*100 times as large"):
            unpack(path)
    written = sum(map(len, contents(tmp_path / "into").values()))
    assert written <= 100 * path.stat().st_size
    assert kind == "lying zip" or written == len(honest)  # nothing of the bomb


def test_what_the_disk_has_no_room_for_is_refused_before_it_is_written(tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    free = archives.ROOM_LEFT + 20_000
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage(free, 0, free))
    path = tar_with(tmp_path / "a.tar", *IMAGES.items())
    refused(path, "'img/01243.png'", "no room", "1.1 GB free", "cache_dir")
    assert contents(tmp_path / "into") == {"img/01236.png": IMAGES["img/01236.png"]}


def test_oversized_tar_header_is_not_read_into_memory(tmp_path):
    header = special("x", tarfile.GNUTYPE_LONGNAME)
    header.size = 2 << 20
    first = tarfile.TarInfo("img/01236.png").tobuf()
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(first + header.tobuf() + b"x" * header.size + bytes(1024)))
    refused(path, "a header of over one megabyte")


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.3, 0.6, 0.95])
def test_cut_archives(tmp_path, kind, kept):
    noise = {name: random.Random(name).randbytes(5000) for name in IMAGES}
    whole = tmp_path / f"a.{kind}"
    if kind == "zip":
        zip_with(whole, *noise.items())
    else:
        tar_with(whole, *noise.items(), mode="w:gz" if kind == "tar.gz" else "w")
    data = whole.read_bytes()
    whole.write_bytes(data[: int(kept * (len(data) if kind != "tar" else 12_000))])
    assert "damaged or cut off" in refused(whole)


def test_a_tar_cut_between_members_is_noticed(tmp_path):
    path = tar_with(tmp_path / "a.tar", *IMAGES.items(), mode="w")
    path.write_bytes(path.read_bytes()[: 512 + 15_360])
    refused(path, "damaged or cut off")


@pytest.mark.parametrize("seed", range(60))
def test_a_flipped_byte_is_noticed(tmp_path, seed):
    """Whatever byte it is, the outcome is a message or every image's right content."""
    draw = random.Random(seed)
    noise = {name: draw.randbytes(300) for name in IMAGES}
    path = tmp_path / "a"
    (tar_with if seed % 2 else zip_with)(path, *noise.items())
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= draw.randrange(1, 256)
    path.write_bytes(data)
    try:
        _, into = unpack(path)
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert sorted(contents(into).values()) == sorted(noise.values())


def test_not_an_archive(tmp_path):
    path = tmp_path / "a.zip"
    path.write_text("<html>please log in</html>")
    refused(path, "damaged")


def test_the_archive_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"missing\.zip"):
        unpack(tmp_path / "missing.zip")


def hello_zip(path):
    return encrypted_zip(path, {"a.txt": b"hello hello hello"}, "meme")


def test_the_password_opens_a_zip(tmp_path):
    _, into = unpack(hello_zip(tmp_path / "a.zip"), password="meme")
    assert contents(into) == {"a.txt": b"hello hello hello"}


def test_a_missing_password_is_asked_for(tmp_path):
    refused(hello_zip(tmp_path / "a.zip"), "'a.txt'", "encrypted", "HM_ZIP_PASSWORD")


@pytest.mark.parametrize("wrong", [f"wrong-{number}" for number in range(4)])
def test_a_wrong_password_is_said_and_not_shown(tmp_path, wrong, caplog):
    path = hello_zip(tmp_path / "a.zip")
    message = refused(path, "password is wrong", "check the password", password=wrong)
    assert wrong not in message + caplog.text


@pytest.mark.parametrize("password", ["meme", None])
def test_an_aes_zip_is_to_be_unpacked_by_hand(tmp_path, password):
    path = hello_zip(tmp_path / "a.zip")
    path.write_bytes(path.read_bytes().replace(b"\x14\0\1\0\x08\0", b"\x14\0\1\0\x63\0"))
    refused(path, "'a.txt'", "AES", "by hand", password=password)
