"""HPACK's Huffman code (RFC 7541, 5.2 and appendix B), decoded four bits at a time. Pure.

The code is canonical: codes of one length follow each other in the order of their bytes, so that the lengths alone
say which they are. Nothing is encoded with it: what edged answers is short, and the same each time.
"""

from __future__ import annotations

from typing import Final

_EOS: Final = 256
# fmt: off
# Which bytes have codes of so many bits; appendix B's list, read by length.
_BY_LENGTH: Final[dict[int, bytes | tuple[int, ...]]] = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b'!"()?',
    11: b"'+|",
    12: b"#>",
    13: b"\0$@[]~",
    14: b"^}",
    15: b"<`{",
    19: (92, 195, 208),
    20: (128, 130, 131, 162, 184, 194, 224, 226),
    21: (153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230),
    22: (129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189,
         190, 196, 198, 228, 232, 233),
    23: (1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158, 165, 166, 168, 174,
         175, 180, 182, 183, 188, 191, 197, 231, 239),
    24: (9, 142, 144, 145, 148, 159, 171, 206, 215, 225, 236, 237),
    25: (199, 207, 234, 235),
    26: (192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242, 243, 255),
    27: (203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254),
    28: (
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        11,
        12,
        14,
        15,
        16,
        17,
        18,
        19,
        20,
        21,
        23,
        24,
        25,
        26,
        27,
        28,
        29,
        30,
        31,
        127,
        220,
        249,
    ),
    30: (10, 13, 22, _EOS),
}
# fmt: on


def _codes() -> dict[int, int]:
    """Byte by code, with a 1 in front of each code so that its leading zeros count."""
    found, code, length = {}, 0, 0
    for bits, symbols in _BY_LENGTH.items():
        code <<= bits - length
        length = bits
        for symbol in symbols:
            found[1 << bits | code] = symbol
            code += 1
    return found


_SYMBOLS: Final = _codes()
_PADDING: Final = frozenset((1 << bits + 1) - 1 for bits in range(8))  # at most seven ones, the start of EOS
# What four bits do to the beginning of a code: the beginning after them, and the bytes that they end, at most one. By
# beginning << 4 | bits; filled as they come, at most 16 for each of the 256 beginnings.
_STEPS: Final[dict[int, tuple[int, bytes]]] = {}


def decode(data: bytes) -> bytes:
    """The bytes that `data` stands for: at most 8/5 of it. Raises ValueError for what nobody encodes so."""
    found = bytearray()
    code, steps = 1, _STEPS
    for byte in data:
        for four in (byte >> 4, byte & 15):
            step = steps.get(code << 4 | four) or _step(code, four)
            code = step[0]
            found += step[1]
    if code not in _PADDING:
        raise ValueError("a string that ends in the middle of a code")
    return bytes(found)


def _step(code: int, four: int) -> tuple[int, bytes]:
    """Bit by bit, once. Raises ValueError."""
    key, ended = code << 4 | four, b""
    for bit in (3, 2, 1, 0):
        code = code << 1 | four >> bit & 1
        symbol = _SYMBOLS.get(code)
        if symbol == _EOS:
            raise ValueError("the end of a string inside of it")
        if symbol is not None:
            code, ended = 1, bytes((symbol,))
    _STEPS[key] = code, ended
    return code, ended
