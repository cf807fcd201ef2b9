# SPDX-License-Identifier: Apache-2.0
"""Two kinds of plots as SVG, small enough to be written by hand and readable on light and dark pages: bars, and latency curves."""
import math
from xml.sax.saxutils import escape

WIDTH, LABEL, BAR, GAP = 860, 210, 15, 12
COLOURS = ["#d9480f", "#1971c2", "#2f9e44", "#9c36b5", "#868e96"]
# One grey that reads on white and on black: not every viewer of an image tells it which of the two it stands on.
STYLE = """<style>
text { font: 12px system-ui, sans-serif; fill: #6e7781 } .title { font-weight: 600; font-size: 15px }
.grid { stroke: #6e7781; stroke-opacity: 0.3 }
</style>"""


def readable(value):
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.3g}"


def document(height, title, parts):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-label="{escape(title)}">\n'
            f'{STYLE}\n<text class="title" x="0" y="18">{escape(title)}</text>\n' + "\n".join(parts) + "\n</svg>\n")


def legend(names, y):
    parts, x = [], 0
    for name, colour in names:
        parts.append(f'<rect x="{x}" y="{y - 10}" width="12" height="12" rx="2" fill="{colour}"/><text x="{x + 17}" y="{y}">{escape(name)}</text>')
        x += 40 + 7 * len(name)
    return parts


def bars(title, rows):
    """rows: [(label, [(subject, value)...])]; each row is scaled to its own longest bar, since rows have their own units."""
    subjects = list(dict.fromkeys(subject for _, values in rows for subject, _ in values))
    colour = {subject: COLOURS[i % len(COLOURS)] for i, subject in enumerate(subjects)}
    parts, y = legend([(subject, colour[subject]) for subject in subjects], 42), 60
    for label, values in rows:
        longest = max(value for _, value in values) or 1
        parts.append(f'<text x="0" y="{y + 12}">{escape(label)}</text>')
        for subject, value in values:
            width = max(1, (WIDTH - LABEL - 80) * value / longest)
            parts.append(f'<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR - 3}" rx="2" fill="{colour[subject]}"/>'
                         f'<text x="{LABEL + width + 6:.1f}" y="{y + 11}">{readable(value)}</text>')
            y += BAR
        y += GAP
    return document(y, title, parts)


def curves(title, lines):
    """lines: [(label, [[percentile, ms]...])]; both axes logarithmic, percentiles by the share that is slower."""
    left, right, top, bottom = 70, WIDTH - 40, 60, 340
    values = [ms for _, points in lines for _, ms in points if ms > 0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)) + 1e-9)
    high = max(high, low + 1)

    def x(percentile):
        return left + (right - left) * (math.log10(100 / (100 - percentile)) / 4)

    def y(ms):
        return bottom - (bottom - top) * ((math.log10(max(ms, 10 ** low)) - low) / (high - low))

    parts = legend([(label, COLOURS[i % len(COLOURS)]) for i, (label, _) in enumerate(lines)], 42)
    for exponent in range(low, high + 1):
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y(10 ** exponent):.1f}" y2="{y(10 ** exponent):.1f}"/>'
                     f'<text x="{left - 8}" y="{y(10 ** exponent) + 4:.1f}" text-anchor="end">{10 ** exponent:g} ms</text>')
    for percentile in (50, 90, 99, 99.9, 99.99):
        parts.append(f'<line class="grid" x1="{x(percentile):.1f}" x2="{x(percentile):.1f}" y1="{top}" y2="{bottom}"/>'
                     f'<text x="{x(percentile):.1f}" y="{bottom + 18}" text-anchor="middle">p{percentile:g}</text>')
    for i, (_, points) in enumerate(lines):
        path = " ".join(f"{x(percentile):.1f},{y(ms):.1f}" for percentile, ms in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[i % len(COLOURS)]}" stroke-width="2"/>')
    return document(bottom + 30, title, parts)
