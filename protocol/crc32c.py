"""CRC32C (Castagnoli), the checksum in the PROXY protocol's PP2_TYPE_CRC32C, computed by a table.

Reflected polynomial 0x82F63B78, initial value and final XOR all ones (RFC 4960 Appendix B).
"""

from functools import cache

_POLYNOMIAL = 0x82F63B78


def _remainder(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ _POLYNOMIAL if byte & 1 else byte >> 1
    return byte


@cache
def _table() -> tuple[int, ...]:
    return tuple(map(_remainder, range(256)))


def crc32c(data: bytes) -> int:
    """Return the CRC32C of `data`, an unsigned 32-bit number (RFC 4960 Appendix B)."""
    table = _table()
    value = 0xFFFFFFFF
    for byte in data:
        value = (value >> 8) ^ table[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF
