# SPDX-License-Identifier: Apache-2.0
"""What two godwits say to each other, as bytes: written from docs/protocol.md and from nothing else."""
import ctypes
import dataclasses
import json
import struct

VERSION = 3
MAGIC = b"\x89godwi\r\n"
SESSION = bytes(16)  # of hellos that belong to no migration yet
CONTROL, CHANNEL, DEVICE, MEASURE = 1, 2, 3, 4
WELCOME, OTHER_VERSION, BUSY, NO_SESSION = 0, 1, 2, 3
HELLO_SIZE, WELCOME_SIZE = 40, 32
LONGEST_MESSAGE = 512 << 10

FRAME_MAGIC = b"GWF3"
PAGES, ZERO, PASS_END, CHANGES = 1, 2, 3, 4
ALL, RAM = 0, 1  # what a frame is about
NONE, LZ4, ZSTD, DEFLATE = 0, 1, 2, 3
PAGE = 4096
_HEADER = struct.Struct("<4sBBHIIII16sBB6x")  # all of it but the check
HEADER_SIZE = _HEADER.size + 8


class Ended(Exception):
    """The other one closed the connection."""


def read(sock, size):
    """Just that many bytes. Raises Ended."""
    data = bytearray()
    while len(data) < size:
        try:
            more = sock.recv(size - len(data))
        except (ConnectionResetError, BrokenPipeError) as error:
            raise Ended(str(error)) from error
        if not more:
            raise Ended(f"after {len(data)} of {size} bytes")
        data += more
    return bytes(data)


def hello(role=CONTROL, channel=0, session=SESSION, version=VERSION):
    return struct.pack("<8sHBxHxx16s8x", MAGIC, version, role, channel, session)


def parse_hello(data):
    """(version, role, channel, session)"""
    magic, version, role, channel, session = struct.unpack("<8sHBxHxx16s8x", data)
    assert magic == MAGIC, data
    return version, role, channel, session


def welcome(status=WELCOME, session=SESSION, version=VERSION):
    return struct.pack("<8sHB5x16s", MAGIC, version, status, session)


def parse_welcome(data):
    """(version, status, session)"""
    magic, version, status, session = struct.unpack("<8sHB5x16s", data)
    assert magic == MAGIC, data
    return version, status, session


def message(body):
    """A message of the control connection: an object, or bytes that are to look like one."""
    text = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
    return struct.pack("<I", len(text)) + text


def read_message(sock):
    size, = struct.unpack("<I", read(sock, 4))
    assert size <= LONGEST_MESSAGE, size
    body = json.loads(read(sock, size))
    assert isinstance(body, dict), body
    return body


class _Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


def _library():
    # Python's own package of this name has no secrets; godwit needs the library anyway.
    library = ctypes.CDLL("libxxhash.so.0")
    library.XXH3_64bits.restype = library.XXH3_64bits_withSeed.restype = ctypes.c_uint64
    library.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    library.XXH3_64bits_withSeed.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
    library.XXH3_128bits.restype = _Hash128
    library.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    library.XXH3_128bits_withSecret.restype = _Hash128
    library.XXH3_128bits_withSecret.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    return library


_xxhash = _library()


def xxh64(data):
    return _xxhash.XXH3_64bits(data, len(data))


def xxh128(data):
    """Has `low` and `high`."""
    return _xxhash.XXH3_128bits(data, len(data))


def _digest(data, secret):
    value = _xxhash.XXH3_128bits_withSecret(data, len(data), secret, len(secret))
    return struct.pack("<QQ", value.low, value.high)


def digest(pages, secret):
    """16 bytes for the pages that travel in one frame: of each page, and of these in a row."""
    return _digest(b"".join(_digest(pages[at:at + PAGE], secret) for at in range(0, len(pages), PAGE)), secret)


def check_of(header, runs):
    """Covers where pages go."""
    return _xxhash.XXH3_64bits_withSeed(runs, len(runs), _xxhash.XXH3_64bits(header, len(header)))


@dataclasses.dataclass
class Frame:
    """One frame. `pages`, `length` (of the payload) and `thing` may lie; left out they are what they should be."""
    kind: int = PAGES
    codec: int = NONE
    block: int = 0
    number: int = 1  # of the pass
    runs: list = dataclasses.field(default_factory=list)  # (first page, pages)
    payload: bytes = b""
    digest: bytes = bytes(16)
    device: int = 0
    thing: int = None
    pages: int = None
    length: int = None

    def head(self):
        """Header and runs, with the check that fits them."""
        count = sum(n for _, n in self.runs) if self.pages is None else self.pages
        length = len(self.payload) if self.length is None else self.length
        thing = self.thing if self.thing is not None else ALL if self.kind == PASS_END else RAM
        header = _HEADER.pack(FRAME_MAGIC, self.kind, self.codec, self.block, self.number, len(self.runs), count, length,
                              self.digest, self.device, thing)
        runs = b"".join(struct.pack("<Q", first << 24 | count) for first, count in self.runs)
        return header + struct.pack("<Q", check_of(header, runs)) + runs

    def pack(self):
        return self.head() + self.payload


def pages_frame(number, block, first, content, secret, **others):
    """Pages that lie in a row, as they are."""
    return Frame(number=number, block=block, runs=[(first, len(content) // PAGE)], payload=content,
                 digest=digest(content, secret), **others)


def pass_end(number, pages):
    """What a channel says behind its last frame of a pass; `pages`: those that it sent with content."""
    return Frame(kind=PASS_END, number=number, pages=pages)


def read_frame(sock):
    """The next frame of a channel, all that can be checked without the secret checked. Raises Ended."""
    raw = read(sock, HEADER_SIZE)
    magic, kind, codec, block, number, count, pages, length, value, device, thing = _HEADER.unpack(raw[:_HEADER.size])
    assert magic == FRAME_MAGIC, raw
    runs = read(sock, 8 * count)
    assert struct.unpack("<Q", raw[_HEADER.size:])[0] == check_of(raw[:_HEADER.size], runs), "the check is wrong"
    numbers = struct.unpack(f"<{count}Q", runs)
    frame = Frame(kind, codec, block, number, [(n >> 24, n & 0xffffff) for n in numbers], read(sock, length), value,
                  device, thing, pages)
    assert thing == (ALL if kind == PASS_END else RAM), f"a frame about {thing}"
    assert kind == PASS_END or pages == sum(n for _, n in frame.runs), "the sum of the runs is wrong"
    return frame
