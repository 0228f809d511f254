"""Damage for bench/fuzz.py: bytes, texts and JSON values as no writer of ours would write them."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

Mutation = Callable[[bytes, random.Random, Sequence[bytes]], bytes]
"""The damaged bytes of a seed; the others are all seeds of the reader."""

NUMBERS = (0, 1, -1, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, -(2**31))
DEPTH = 200_000
TOKENS = (
    *("nan", "inf", "-inf", "1e400", "-1", "0", "1e-400", "0x7f", "1_000", "9" * 400, "9" * 5000, "٣", "3,5", "1.0"),
    *("", " ", "\t", "\n", "\r", "\r\n", "\0", "\ufeff", "\u2028", "\x1b[2J", "\x85", '"', "'", ",", ";", "|", "\\"),
    *("[", "]", "{", "}", "(", ")", ":", "=", "- ", "#", "&a", "*a", "<<: *a", "!!python/object:os.system x", "%"),
    *("null", "true", "NaN", "Infinity", "-0", '"\\ud800"', "__proto__", "../../etc/passwd", "/etc/passwd", "C:\\x"),
    *("<", ">", "</", "<!DOCTYPE a [<!ENTITY b 'c'>]>", "&b;", "<![CDATA[", '<?xml version="1.0" encoding="x"?>'),
    *("=1+1", "@a", "+a", "a" * 200_000, "é", "\ud7ff", "👩‍👩‍👧", "n01440764", "id", "file", "index", "name"),
)
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 1.5, -0.5, 10**400, 2**31, 2**63, -(2**63), 1e308, float("nan"), float("inf"), ""),
    *(" ", "a", "0", "nan", "\0", "\x1b[2J", "../../x", "/etc/passwd", "<b>", "=1+1", "\ud800", "x" * 5000),
    *([], {}, [[]], [None], [0, 1], ["a"], {"a": None}, {"": 0}, [[[[[[0]]]]]], [{}] * 20, list(range(300))),
)


def flipped(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if found:
            found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def overwritten(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice((1, 2, 8))):
        if found:
            found[rng.randrange(len(found))] = rng.randrange(256)
    return bytes(found)


def cut(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] if rng.random() < 0.8 else data[at:]


def moved(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    """A part is left out, doubled, or put elsewhere."""
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    b = min(b, a + rng.choice((1, 4, 32, 1024)))
    part, rest = data[a:b], data[:a] + data[b:]
    if (how := rng.randrange(3)) == 0:
        return rest
    if how == 1:
        return data[:b] + part * rng.choice((1, 2, 50)) + data[b:]
    at = rng.randrange(len(rest) + 1)
    return rest[:at] + part + rest[at:]


def spliced(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    a, b = rng.randrange(len(data) + 1), rng.randrange(len(other) + 1)
    return data[:a] + other[b:]


def lied(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    """A number of one to eight bytes, in either order, is another: a length, a place or a count, if it is met."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2))):
        size = rng.choice((1, 2, 4, 4, 8))
        if len(found) >= size:
            # Most lengths stand near either end.
            span = min(len(found) - size, rng.choice((64, 256, len(found))))
            at = rng.randrange(span + 1)
            at = len(found) - size - at if rng.random() < 0.4 else at
            number = rng.choice(NUMBERS) & (256**size - 1)
            found[at : at + size] = number.to_bytes(size, rng.choice(("little", "big")))
    return bytes(found)


def varied(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Any of these, at times several."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice((flipped, flipped, overwritten, cut, moved, spliced, lied, lied))(data, rng, others)
    return data


def worded(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Damage to a text: other words, lines and numbers, nesting without end, another encoding."""
    draw = rng.random()
    if draw < 0.2:
        return varied(data, rng, others)
    if draw < 0.2 + 1e-3:
        opened = rng.choice((b"[", b'{"a":', b"(", b"- ", b"<a>", b"[{", b"a:\n ", b"-", b"not ", b"!"))
        return opened * rng.choice((50, 1000, DEPTH)) + data
    text = data.decode("utf-8", "surrogateescape")
    for _ in range(rng.choice((1, 1, 2, 5))):
        lines = text.splitlines(keepends=True) or [""]
        how, token = rng.randrange(6), rng.choice(TOKENS)
        if how == 0:
            at = rng.randrange(len(text) + 1)
            text = text[:at] + token + text[at:]
        elif how == 1:
            a = rng.randrange(len(text) + 1)
            text = text[:a] + token + text[a + rng.choice((1, 2, 5, 20)) :]
        elif how == 2:
            at = rng.randrange(len(lines))
            lines[at : at + 1] = [lines[at]] * rng.choice((0, 2, 3))
            text = "".join(lines)
        elif how == 3:
            rng.shuffle(lines)
            text = "".join(lines)
        elif how == 4:
            cells = text.split(separator := rng.choice((",", "\n", '"', ":", " ", "=", ">")))
            cells[rng.randrange(len(cells))] = token
            text = separator.join(cells)
        else:
            other = rng.choice(others).decode("utf-8", "surrogateescape").splitlines(keepends=True) or [""]
            text += rng.choice(other)
    if rng.random() < 0.03:
        return text.encode(rng.choice(("utf-16", "utf-32", "utf-16-le", "latin-1", "cp037")), "replace")
    return text.encode("utf-8", "surrogateescape" if rng.random() < 0.5 else "replace")


def valued(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """JSON whose values are of another kind, another size, missing, doubled or exchanged."""
    value = json.loads(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = list(_places(value))
        if not places:
            break
        inside, key = rng.choice(places)
        how = rng.randrange(8)
        if how < 4:
            inside[key] = copy.deepcopy(rng.choice(ODD))
        elif how == 4:
            other, there = rng.choice(places)
            inside[key] = json.loads(json.dumps(other[there])) if there in _keys(other) else None
        elif how == 5 and isinstance(inside, dict):
            inside[rng.choice(("", "schema", "\0", key.upper(), "x"))] = inside.pop(key)
        elif how == 6 and isinstance(inside, list):
            inside.insert(key, copy.deepcopy(rng.choice(ODD)))
        else:
            del inside[key]
    try:
        return json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):  # It was put into itself.
        return data


def _keys(inside: Any) -> Sequence[Any]:
    return list(inside) if isinstance(inside, dict) else range(len(inside))


def _places(value: Any) -> Any:
    """Each place in a JSON value, as what holds it and the key."""
    waiting = [value]
    while waiting:
        inside = waiting.pop()
        if isinstance(inside, dict | list):
            for key in _keys(inside):
                yield inside, key
                waiting.append(inside[key])


def jsoned(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Damage to JSON: mostly to its values, else to its text."""
    return (valued if rng.random() < 0.8 else worded)(data, rng, others)


def with_crc(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what is in them, as far as it can be followed."""
    import zlib

    found, at = bytearray(data), 8
    while at + 12 <= len(found):
        end = at + 8 + struct.unpack_from(">I", found, at)[0]
        if end + 4 > len(found):
            break
        struct.pack_into(">I", found, end, zlib.crc32(found[at + 4 : end]))
        at = end + 4
    return bytes(found)


def tar_sums(data: bytes) -> bytes:
    """A tar whose headers have the checksums of what is in them: of each block that looks like one."""
    found = bytearray(data)
    for at in range(0, len(found) - 511, 512):
        if found[at + 257 : at + 262] == b"ustar":
            total = sum(found[at : at + 148]) + 8 * 32 + sum(found[at + 156 : at + 512])
            found[at + 148 : at + 156] = b"%06o\0 " % (total & 0o777777)
    return bytes(found)
