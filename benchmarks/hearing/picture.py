"""How often people are cut off against how long they wait, as an SVG for light pages and dark."""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

from benchmarks.hearing.measure import DEFAULT, HOLDS_MS, Measured, hold_name
from benchmarks.hearing.report import percentiles
from benchmarks.hearing.rivals import RIVALS
from benchmarks.hearing.scoring import Score

_WIDTH, _HEIGHT = 760, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 24, 76, 56
_LONGEST_MS = 1_400
_WORTH_A_WORD = 0.02
"""The share of turns missed or merged from which a setting's name says so."""

_BESIDE = (11, 4, "start")
_PLACES = {
    "speech-to-speech: gate 0.8 s": (11, -8, "start"),
    "plain webrtcvad": (14, 22, "end"),
}
"""Where a name stands from its point, where beside it something else does: right, down, anchor."""


_SUBTITLE = (
    "Pauses of 200 to 800 ms taken for the end of a turn, at 5 dB and more. "
    "Lost: turns missed or merged."
)
_CAVEAT = "The others by their published settings, without the turn-end models that some add."
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-size: 15px; font-weight: 600 }
  .quiet { fill: #6e7781; font-size: 12px }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .curve { fill: none; stroke: #0969da; stroke-width: 2.5 }
  .hold { fill: #0969da }
  .ours { fill: #0969da; font-weight: 600 }
  .rival { fill: #bc4c00 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .quiet { fill: #9198a1 }
    .grid { stroke: #3d444d }
    .curve { stroke: #4493f8 }
    .hold, .ours { fill: #4493f8 }
    .rival { fill: #f0883e }
  }
"""


@dataclass(frozen=True, slots=True)
class Point:
    """A setting: what it costs in waiting, and in being cut off."""

    delay_ms: float
    cut_percent: float

    @property
    def x(self) -> float:
        return _LEFT + self.delay_ms / _LONGEST_MS * (_WIDTH - _LEFT - _RIGHT)

    @property
    def y(self) -> float:
        return _HEIGHT - _BOTTOM - self.cut_percent / 100 * (_HEIGHT - _TOP - _BOTTOM)


def picture(measured: Measured) -> str:
    """The SVG document."""
    holds = [_point(measured.audible[hold_name(hold_ms)]) for hold_ms in HOLDS_MS]
    default_name = hold_name(DEFAULT.silence_duration_ms)
    default = _point(measured.audible[default_name])
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
            "<title>Pauses taken for the end of a turn, against the delay of that end</title>",
            f"<style>{_STYLE}</style>",
            _text(_LEFT, 24, "Cut off, or kept waiting", "title"),
            _text(_LEFT, 42, _SUBTITLE, "quiet"),
            _text(_LEFT, 58, _CAVEAT, "quiet"),
            *_axes(),
            f'<polyline class="curve" points="{_joined(holds)}"/>',
            *(f'<circle class="hold" cx="{p.x:.1f}" cy="{p.y:.1f}" r="2.5"/>' for p in holds),
            f'<circle class="hold" cx="{default.x:.1f}" cy="{default.y:.1f}" r="6"/>',
            _text(default.x + 6, default.y - 20, f"ours: {default_name}", "ours"),
            *(_rival(name, measured.audible[name]) for name in RIVALS),
            "</svg>\n",
        ]
    )


def _point(score: Score) -> Point:
    return Point(percentiles(score.end_delays_ms)[0], 100 * score.pauses_cut / score.pauses)


def _axes() -> list[str]:
    lines = []
    for percent in range(0, 101, 25):
        y, end = Point(0, percent).y, _WIDTH - _RIGHT
        lines.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{end}"/>')
        lines.append(_text(_LEFT - 8, y + 4, f"{percent}%", "quiet", "end"))
    for delay_ms in range(0, _LONGEST_MS + 1, 200):
        x = Point(delay_ms, 0).x
        lines.append(_text(x, _HEIGHT - _BOTTOM + 18, f"{delay_ms}", "quiet", "middle"))
    below = "ms from the last word to the decision that the turn is over, median"
    lines.append(_text(_WIDTH - _RIGHT, _HEIGHT - 16, below, "quiet", "end"))
    return lines


def _joined(points: list[Point]) -> str:
    return " ".join(f"{point.x:.1f},{point.y:.1f}" for point in points)


def _rival(name: str, score: Score) -> str:
    point = _point(score)
    lost = (score.missed + score.merged) / score.turns
    said = name + (f", {lost:.0%} lost" if lost >= _WORTH_A_WORD else "")
    right, down, anchor = _PLACES.get(name, _BESIDE)
    # A diamond, so that it isn't told by its colour alone.
    diamond = f"M{point.x:.1f} {point.y - 6:.1f}l6 6l-6 6l-6-6z"
    text = _text(point.x + right, point.y + down, said, "rival", anchor)
    return f'<path class="rival" d="{diamond}"/>{text}'


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {where}>{escape(text)}</text>'
