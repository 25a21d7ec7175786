#!/usr/bin/env python3
"""report_svg.py FILE [COUNT]: is the picture well-formed and self-contained, and does no text lie on another or leave it?
With COUNT: prints how many elements of each class there are.  Text widths are those of DejaVu Sans as installed."""
import collections
import struct
import sys
import xml.etree.ElementTree

NAMESPACE = "{http://www.w3.org/2000/svg}"
SIZES = {"title": 16, "worst": 16, "axis": 10}
BOLD = {"title", "worst", "image", "bad", "mix"}


class Font:
    """The advance widths of a TrueType font: tables head, hhea, hmtx and cmap, format 4."""

    def __init__(self, path):
        self.data = open(path, "rb").read()
        self.tables = {}
        for i in range(self.numbers(4, 1)[0]):
            tag, _, offset, _ = struct.unpack_from(">4sIII", self.data, 12 + 16 * i)
            self.tables[tag] = offset
        self.units = self.numbers(self.tables[b"head"] + 18, 1)[0]
        self.metrics = self.numbers(self.tables[b"hhea"] + 34, 1)[0]
        self.glyphs = self.read_map()

    def numbers(self, offset, count, kind="H"):
        return struct.unpack_from(">%d%s" % (count, kind), self.data, offset)

    def read_map(self):
        start = self.tables[b"cmap"]
        for i in range(self.numbers(start + 2, 1)[0]):
            table = start + self.numbers(start + 4 + 8 * i + 4, 1, "I")[0]
            if self.numbers(table, 1)[0] == 4:
                break
        count = self.numbers(table + 6, 1)[0] // 2
        last = self.numbers(table + 14, count)
        first = self.numbers(table + 16 + 2 * count, count)
        delta = self.numbers(table + 16 + 4 * count, count)
        ranges = table + 16 + 6 * count
        glyphs = {}
        for i, offset in enumerate(self.numbers(ranges, count)):
            for code in range(first[i], min(last[i], 0xfffe) + 1):
                glyph = code
                if offset:
                    glyph = self.numbers(ranges + 2 * i + offset + 2 * (code - first[i]), 1)[0]
                glyphs[code] = (glyph + delta[i]) & 0xffff
        return glyphs

    def width(self, text, size):
        total = 0
        for character in text:
            glyph = self.glyphs.get(ord(character))
            # Another font has it, as wide as its size at most.
            total += self.units if not glyph else self.numbers(self.tables[b"hmtx"] + 4 * min(glyph, self.metrics - 1), 1)[0]
        return total * size / self.units


def boxes(root):
    fonts = [Font("/usr/share/fonts/truetype/dejavu/DejaVuSans%s.ttf" % style) for style in ("", "-Bold")]
    for element in root.iter(NAMESPACE + "text"):
        style = element.get("class")
        size = SIZES.get(style, 11)
        width = fonts[style in BOLD].width(element.text, size)
        left = float(element.get("x")) - {"middle": width / 2, "end": width}.get(element.get("text-anchor"), 0)
        bottom = float(element.get("y"))
        yield left, bottom - 0.76 * size, left + width, bottom + 0.24 * size, element.text


def check(root):
    width, height = float(root.get("width")), float(root.get("height"))
    texts = list(boxes(root))
    for i, (left, top, right, bottom, text) in enumerate(texts):
        if left < 0 or right > width or top < 0 or bottom > height:
            yield "leaves the picture: %r" % text
        for other in texts[i + 1:]:
            if left < other[2] and other[0] < right and top < other[3] and other[1] < bottom:
                yield "on one another: %r and %r" % (text, other[4])
    for element in root.iter():
        if element.tag.split("}")[1] in ("script", "image", "use", "foreignObject"):
            yield "not self-contained: %s" % element.tag
        for name, value in element.attrib.items():
            if name.split("}")[-1] == "href" or "http" in value:
                yield "refers to something else: %s=%r" % (name, value)
            if name in ("x", "width", "cx") and not -1 <= float(value) <= width + 1:
                yield "outside: %s %s=%s" % (element.tag, name, value)


tree = xml.etree.ElementTree.parse(sys.argv[1]).getroot()
findings = list(check(tree))
print("\n".join(findings), end="\n" if findings else "")
if len(sys.argv) > 2:
    plot = [element for element in tree.iter() if element.get("class")]
    for name, count in sorted(collections.Counter(element.get("class") for element in plot).items()):
        print(name, count)
    print("elements", sum(1 for _ in tree.iter()))
sys.exit(bool(findings))
