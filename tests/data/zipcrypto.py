"""Zips encrypted with ZipCrypto, which Python's zipfile reads and does not write."""

import zlib
from pathlib import Path


def encrypted_zip(path: Path, files: dict[str, bytes], password: str) -> Path:
    """Write a zip of ``files`` (name -> content), each encrypted; PKWARE's APPNOTE.TXT 6.1."""
    body = directory = b""
    for name, content in files.items():
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        crc = zlib.crc32(content)
        plain = bytes(11) + bytes([crc >> 24]) + packer.compress(content) + packer.flush()
        cipher = _encrypt(plain, password.encode())
        fields = b"\x14\0\1\0\x08\0" + bytes(4) + crc.to_bytes(4, "little")
        fields += len(cipher).to_bytes(4, "little") + len(content).to_bytes(4, "little")
        fields += len(name).to_bytes(2, "little") + bytes(2)
        offset = len(body).to_bytes(4, "little")
        directory += b"PK\1\2\x14\0" + fields + bytes(10) + offset + name.encode()
        body += b"PK\3\4" + fields + name.encode() + cipher
    count = len(files).to_bytes(2, "little") * 2
    end = b"PK\5\6" + bytes(4) + count + len(directory).to_bytes(4, "little")
    path.write_bytes(body + directory + end + len(body).to_bytes(4, "little") + bytes(2))
    return path


def _encrypt(plain: bytes, password: bytes) -> bytes:
    keys = [0x12345678, 0x23456789, 0x34567890]

    def step(value: int, byte: int) -> int:  # one byte of CRC-32, without its inversions
        return zlib.crc32(bytes([byte]), value ^ 0xFFFFFFFF) ^ 0xFFFFFFFF

    def update(byte: int) -> None:
        keys[0] = step(keys[0], byte)
        keys[1] = ((keys[1] + (keys[0] & 0xFF)) * 134775813 + 1) & 0xFFFFFFFF
        keys[2] = step(keys[2], keys[1] >> 24)

    for byte in password:
        update(byte)
    cipher = bytearray()
    for byte in plain:
        mask = keys[2] | 2
        cipher.append(byte ^ ((mask * (mask ^ 1) >> 8) & 0xFF))
        update(byte)
    return bytes(cipher)
