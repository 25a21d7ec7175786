#!/usr/bin/env python3
"""report_pixels.py FILE: prints the size of a PNG of 8-bit RGB or RGBA, and how many of its pixels are red, light and
dark."""
import struct
import sys
import zlib

data = open(sys.argv[1], "rb").read()
width, height, depth, kind = struct.unpack_from(">IIBB", data, 16)
assert data[:8] == b"\x89PNG\r\n\x1a\n" and depth == 8 and kind in (2, 6), (depth, kind)
size = 3 if kind == 2 else 4
packed, at = b"", 8
while at < len(data):
    length, name = struct.unpack_from(">I4s", data, at)
    if name == b"IDAT":
        packed += data[at + 8:at + 8 + length]
    at += 12 + length
lines = zlib.decompress(packed)
before = bytes(size * width)
red = light = dark = 0
for row in range(height):
    start = row * (size * width + 1)
    how, line = lines[start], bytearray(lines[start + 1:start + 1 + size * width])
    for i in range(len(line) if how else 0):
        left = line[i - size] if i >= size else 0
        corner = before[i - size] if i >= size else 0
        above = before[i]
        if how == 4:
            guess = left + above - corner
            nearest = min((abs(guess - left), 0, left), (abs(guess - above), 1, above), (abs(guess - corner), 2, corner))
            line[i] = (line[i] + nearest[2]) & 255
        else:
            line[i] = (line[i] + (left, above, (left + above) // 2)[how - 1]) & 255
    before = bytes(line)
    for x in range(0, len(line), size):
        r, g, b = line[x:x + 3]
        if size == 4 and line[x + 3] < 128:
            continue
        red += r > 60 and r > 1.12 * g and r > 1.12 * b
        light += min(r, g, b) > 200
        dark += max(r, g, b) < 110
print("%dx%d %d %d %d" % (width, height, red, light, dark))
