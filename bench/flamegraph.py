#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A flame graph as one SVG file, out of `perf script`: perf script | bench/flamegraph.py > flame.svg

Stacks are merged from the root up, after Brendan Gregg's flame graphs: width is the share of samples, a frame stands on its caller,
children are in alphabetical order. Hovering shows the numbers; a click on a frame makes it the whole width, one on the lowest
frame goes back. --title TEXT; --only REGEX keeps stacks with a frame that matches (a thread's name is the lowest frame).
"""
import argparse
import re
import sys
from xml.sax.saxutils import escape

WIDTH, FRAME, LEAST = 1200, 17, 0.0004  # frames narrower than this share are left out

SCRIPT = """
function zoom(frame) {
  const x = +frame.dataset.x, width = +frame.dataset.w;
  for (const other of document.querySelectorAll("g")) {
    const left = (+other.dataset.x - x) / width, share = +other.dataset.w / width;
    const isSeen = left < 1 - 1e-9 && left + share > 1e-9;
    other.style.display = isSeen ? "" : "none";
    const from = Math.max(0, left) * %d, size = Math.min(1, left + share) * %d - from;
    other.firstElementChild.setAttribute("x", from); other.firstElementChild.setAttribute("width", Math.max(0.3, size - 0.5));
    const text = other.querySelector("text"); text.setAttribute("x", from + 3);
    text.textContent = size < 30 ? "" : other.dataset.name.slice(0, size / 7);
  }
}""" % (WIDTH, WIDTH)


class Node:
    def __init__(self, name):
        self.name, self.count, self.children = name, 0, {}


def stacks(lines):
    """Of perf script's text: a line that names the thread, then a line a frame from the leaf down, then an empty one."""
    thread, frames = None, []
    for line in lines:
        if not line.strip():
            if thread:
                yield [thread, *reversed(frames)]
            thread, frames = None, []
        elif line[0].isspace() and thread:
            match = re.match(r"\s+[0-9a-f]+ (.*) \(.*\)$", line.rstrip())
            frames.append(re.sub(r"\+0x[0-9a-f]+$", "", match.group(1)) if match else "?")
        elif not line[0].isspace() or thread is None:
            thread, frames = re.match(r"\s*(.*?)\s+\d+(?:/\d+)?\s", line).group(1), []
    if thread:
        yield [thread, *reversed(frames)]


def merge(all_stacks, only):
    root = Node("all")
    for stack in all_stacks:
        if only and not any(only.search(name) for name in stack):
            continue
        node = root
        node.count += 1
        for name in stack:
            node = node.children.setdefault(name, Node(name))
            node.count += 1
    return root


def draw(node, x, depth, total, height, parts):
    """Returns: the depth of the highest frame above it."""
    share = node.count / total
    if share < LEAST:
        return depth
    hue = 20 + sum(map(ord, node.name)) % 35
    y, width, text = height - (depth + 1) * FRAME, share * WIDTH, f"{node.name}: {node.count} samples, {100 * share:.1f} %"
    label = escape(node.name[:int(width / 7)]) if width >= 30 else ""
    parts.append(f'<g data-x="{x:.6f}" data-w="{share:.6f}" data-name="{escape(node.name, {chr(34): "&quot;"})}" onclick="zoom(this)">'
                 f'<rect x="{x * WIDTH:.2f}" y="{y}" width="{max(0.3, width - 0.5):.2f}" height="{FRAME - 1}" fill="hsl({hue},80%,65%)"/>'
                 f'<text x="{x * WIDTH + 3:.2f}" y="{y + 12}">{label}</text><title>{escape(text)}</title></g>')
    highest = depth
    for name in sorted(node.children):
        highest = max(highest, draw(node.children[name], x, depth + 1, total, height, parts))
        x += node.children[name].count / total
    return highest


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--title", default="ciranda")
    parser.add_argument("--only", type=re.compile)
    options = parser.parse_args()
    root = merge(stacks(sys.stdin), options.only)
    if root.count == 0:
        sys.exit("no stacks on the input: perf script | bench/flamegraph.py > flame.svg")
    height = (draw(root, 0, 0, root.count, 0, []) + 1) * FRAME + 24
    parts = []
    draw(root, 0, 0, root.count, height, parts)
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace" font-size="11">'
          f'<rect width="100%" height="100%" fill="#fdfdf8"/><text x="4" y="16" font-size="13">{escape(options.title)}, {root.count} samples</text>'
          f'<script><![CDATA[{SCRIPT}]]></script>\n' + "\n".join(parts) + "\n</svg>")


if __name__ == "__main__":
    main()
