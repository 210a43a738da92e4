// A spoken turn as a picture: one upright stroke per stretch of time.

const SVG = "http://www.w3.org/2000/svg";
/** Strokes of the widest picture; longer speech is drawn coarser. */
export const MOST_STROKES = 48;
/** In px, as all lengths here. */
const STROKE_STEP = 4;
const HEIGHT = 28;
const LOWEST = 2;

/** An `svg` element; `drawWaveform` fills it. */
export function createWaveform() {
  const svg = document.createElementNS(SVG, "svg");
  svg.classList.add("waveform");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS(SVG, "path"));
  return svg;
}

/** Show `levels` (0 to 1) in `svg`. */
export function drawWaveform(svg, levels) {
  const heights = strokes(levels);
  const width = Math.max(heights.length, 1) * STROKE_STEP;
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.setAttribute("width", width);
  svg.setAttribute("height", HEIGHT);
  svg.firstChild.setAttribute("d", path(heights));
}

/** `levels` folded into at most MOST_STROKES, each the highest of those it stands for. Pure. */
export function strokes(levels) {
  const fold = Math.max(1, Math.ceil(levels.length / MOST_STROKES));
  return Array.from({ length: Math.ceil(levels.length / fold) }, (_, index) =>
    Math.max(...levels.slice(index * fold, (index + 1) * fold)),
  );
}

function path(heights) {
  return heights
    .map((height, index) => {
      // Squared, so that syllables stand out: levels are logarithmic, and speech is mostly loud.
      const length = LOWEST + height ** 2 * (HEIGHT - 2 * LOWEST);
      return `M${(index + 0.5) * STROKE_STEP} ${(HEIGHT - length) / 2}v${length}`;
    })
    .join("");
}
