#!/usr/bin/env python3
"""report_pixels.py FILE: prints the size of a PNG of 8-bit RGB or RGBA, and how many of its pixels are red, light and
dark."""
import collections
import struct
import sys
import zlib

data = open(sys.argv[1], "rb").read()
width, height, depth, kind = struct.unpack_from(">IIBB", data, 16)
assert data[:8] == b"\x89PNG\r\n\x1a\n" and depth == 8 and kind in (2, 6), (depth, kind)
size = 3 if kind == 2 else 4
length = size * width
HIGH = int.from_bytes(b"\x80" * length, "little")
LOW = int.from_bytes(b"\x7f" * length, "little")


def add(a, b):
    """Adds lines as one number: each byte for itself."""
    return ((a & LOW) + (b & LOW)) ^ ((a ^ b) & HIGH)


def sums(line):
    """Each byte and all those of its colour on the left of it."""
    number, step = int.from_bytes(line, "little"), size
    while step < length:
        number = add(number, number << 8 * step & (LOW | HIGH))
        step *= 2
    return number.to_bytes(length, "little")


def guessed(how, line, before):
    """The lines of which each byte is the difference to a guess from those on the left and above."""
    line = bytearray(line)
    left = corner = 0
    for i, above in enumerate(before):
        if i >= size:
            left, corner = line[i - size], before[i - size]
        if how == 3:
            guess = (left + above) // 2
        else:
            a, b, c = abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)
            guess = left if a <= b and a <= c else above if b <= c else corner
        line[i] = (line[i] + guess) & 255
    return bytes(line)


def decoded(how, line, before):
    if how == 0:
        return line
    if how == 1:
        return sums(line)
    if how == 2:
        return add(int.from_bytes(line, "little"), int.from_bytes(before, "little")).to_bytes(length, "little")
    return guessed(how, line, before)


packed, at = b"", 8
while at < len(data):
    part, name = struct.unpack_from(">I4s", data, at)
    if name == b"IDAT":
        packed += data[at + 8:at + 8 + part]
    at += 12 + part
lines = zlib.decompress(packed)
before = bytes(length)
known = {}
seen = collections.Counter()
for row in range(height):
    start = row * (length + 1)
    # Many lines of a picture are as others, and beside the same.
    key = lines[start:start + length + 1], before
    if key not in known:
        known[key] = decoded(key[0][0], key[0][1:], before)
    before = known[key]
    seen[before] += 1
pixels = collections.Counter()
for line, times in seen.items():
    for pixel, count in collections.Counter(zip(*(line[i::size] for i in range(size)))).items():
        pixels[pixel] += times * count
red = light = dark = 0
for (r, g, b, *alpha), count in pixels.items():
    if alpha and alpha[0] < 128:
        continue
    red += count * (r > 60 and r > 1.12 * g and r > 1.12 * b)
    light += count * (min(r, g, b) > 200)
    dark += count * (max(r, g, b) < 110)
print("%dx%d %d %d %d" % (width, height, red, light, dark))
