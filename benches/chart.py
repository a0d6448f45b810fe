"""The chart of a results file: an SVG that follows the reader's light or dark scheme."""

from dataclasses import dataclass
from html import escape

from results import FLOOR, Results

WIDTH, COLUMN, MARGIN = 900, 450, 16
NAME_WIDTH, VALUE_WIDTH = 104, 74
BAR, GAP, HEAD = 17, 8, 62

STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #1f2933; }
  .title { font-weight: 600; font-size: 15px; }
  .quiet { fill: #66727f; font-size: 12px; }
  .other { fill: #b4bec9; }
  .floor { fill: #7b8794; }
  .trestle { fill: #0b7285; }
  .json { fill: #3bafc4; }
  .strong { font-weight: 600; }
  .line { stroke: #7b8794; stroke-dasharray: 3 3; }
  .ends { stroke: #1f2933; stroke-opacity: .55; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e3e8ee; }
    .quiet { fill: #97a3b0; }
    .other { fill: #4b5763; }
    .floor { fill: #8492a0; }
    .trestle { fill: #22b8cf; }
    .json { fill: #1483a0; }
    .line { stroke: #8492a0; }
    .ends { stroke: #ffffff; stroke-opacity: .6; }
  }
"""


@dataclass
class Panel:
    title: str
    under: str
    workload: str
    figure: object
    # How a value is written.
    form: object


PANELS = [
    Panel("Deliveries a CPU second", "1,000 clients, as fast as they receive; more is better", "fanout",
          lambda run: 1e6 / run["cpu_us"] if run.get("cpu_us") else None,
          lambda v: f"{v / 1e6:.1f} M" if v >= 1e6 else f"{v / 1e3:.0f} k"),
    Panel("CPU a delivery, µs", "10,000 clients, 10 messages/s; less is better", "large", "cpu_us", lambda v: f"{v:.1f}"),
    Panel("Publish to client, p99 ms", "1,000 clients, 50 messages/s; less is better", "latency",
          lambda run: run["p99_us"] / 1000 if "p99_us" in run else None, lambda v: f"{v:.1f}"),
    Panel("Memory an idle client, KiB", "10,000 clients, resident; less is better", "idle", "rss_kib",
          lambda v: f"{v:.1f}" if v < 100 else f"{v:.0f}"),
]


def svg(results: Results) -> str:
    height_of_one = HEAD + len(results.servers) * (BAR + GAP) + 14
    rows = (len(PANELS) + 1) // 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {rows * height_of_one}" role="img" '
        f'aria-label="{escape(summary(results))}">',
        f"<style>{STYLE}</style>",
    ]
    for n, one in enumerate(PANELS):
        parts.append(f'<g transform="translate({n % 2 * COLUMN + MARGIN} {n // 2 * height_of_one})">')
        parts += panel(one, results)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def panel(one: Panel, results: Results) -> list[str]:
    parts = [f'<text class="title" x="0" y="26">{escape(one.title)}</text>',
             f'<text class="quiet" x="0" y="44">{escape(one.under)}</text>']
    spreads = {name: results.of(name, one.workload, one.figure) for name in results.servers}
    most = max((of.middle for of in spreads.values() if of), default=1)
    room = COLUMN - 2 * MARGIN - NAME_WIDTH - VALUE_WIDTH
    x = lambda value: NAME_WIDTH + room * min(value / most, 1.12)  # noqa: E731
    bottom = HEAD + len(spreads) * (BAR + GAP) - GAP
    if spreads.get(FLOOR) and len(spreads) > 1:
        at = x(spreads[FLOOR].middle)
        parts.append(f'<line class="line" x1="{at:.1f}" x2="{at:.1f}" y1="{HEAD - 4}" y2="{bottom + 4}"/>')
    for n, (name, of) in enumerate(spreads.items()):
        y = HEAD + n * (BAR + GAP)
        middle = y + BAR / 2
        ours = name.startswith("trestle")
        strong = ' class="strong"' if ours else ""
        parts.append(f'<text{strong} x="{NAME_WIDTH - 8}" y="{middle + 4.5}" text-anchor="end">'
                     f'{escape(results.servers[name]["title"])}</text>')
        if of is None:
            parts.append(f'<text class="quiet" x="{NAME_WIDTH + 4}" y="{middle + 4}">not measured</text>')
            continue
        kind = {"trestle": "trestle", "trestle-json": "json", FLOOR: "floor"}.get(name, "other")
        width = max(x(of.middle) - NAME_WIDTH, 1.5)
        parts.append(f'<rect class="{kind}" x="{NAME_WIDTH}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"/>')
        parts.append(f'<line class="ends" x1="{x(of.least):.1f}" x2="{x(of.most):.1f}" y1="{middle}" y2="{middle}"/>')
        label_x = max(x(of.middle), x(of.most)) + 6
        parts.append(f'<text{strong} x="{label_x:.1f}" y="{middle + 4.5}">{escape(one.form(of.middle))}</text>')
    return parts


def summary(results: Results) -> str:
    """What the chart says, for those who do not see it."""
    sentences = []
    for one in PANELS:
        values = [(results.servers[name]["title"], results.of(name, one.workload, one.figure)) for name in results.servers]
        said = ", ".join(f"{title} {one.form(of.middle)}" for title, of in values if of)
        sentences.append(f"{one.title}: {said}.")
    return " ".join(sentences)
