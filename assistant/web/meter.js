// How loud the microphone is.

import { whenEnded } from "./call.js";
import { LEVEL_MS } from "./conversation.js";

/** A quiet room's background, and a raised voice close by, in dBFS: 0 and 1 on the meter. */
const QUIET_DBFS = -54;
const LOUD_DBFS = -6;
/** 43 ms at 48 kHz: longer than a frame of the screen, so that no syllable falls between two. */
const WINDOW_SAMPLES = 2048;

/** Where the RMS of `samples` (-1 to 1) lies between quiet (0) and loud (1). Pure. */
export function level(samples) {
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
  const dbfs = 10 * Math.log10(power);
  return Math.min(1, Math.max(0, (dbfs - QUIET_DBFS) / (LOUD_DBFS - QUIET_DBFS)));
}

/**
 * Watch `microphone` for as long as `call` lasts: `onFrame` gets the level at each frame of the
 * screen, `onLevel` the highest of each LEVEL_MS.
 */
export function watchLevel(call, microphone, { onFrame, onLevel }) {
  const context = new AudioContext();
  const analyser = new AnalyserNode(context, { fftSize: WINDOW_SAMPLES });
  context.createMediaStreamSource(microphone).connect(analyser);
  const samples = new Float32Array(WINDOW_SAMPLES);
  let highest = 0;
  let reportedMs = performance.now();
  let frame = requestAnimationFrame(measure);
  whenEnded(call, () => {
    cancelAnimationFrame(frame);
    context.close();
    onFrame(0);
  });

  function measure(nowMs) {
    analyser.getFloatTimeDomainData(samples);
    const now = level(samples);
    onFrame(now);
    highest = Math.max(highest, now);
    if (nowMs - reportedMs >= LEVEL_MS) {
      onLevel(highest);
      highest = 0;
      reportedMs = nowMs;
    }
    frame = requestAnimationFrame(measure);
  }
}
