// One turn of the conversation on the screen, by its kind (conversation.js lists them).

import { createWaveform, drawWaveform, MOST_STROKES } from "./waveform.js";
import { duration, latency, NEW_CALL, REPLY_MARK, SPEECH_MARK, usage } from "./words.js";

/** An element for `turn`, still empty, and the function that shows `turn` or a newer state of it. */
export function createTurn({ kind }) {
  const element = node("li", `turn ${kind}`);
  const update = kinds[kind](element);
  let shown = null;
  const show = (turn) => {
    if (turn !== shown) update(turn);
    shown = turn;
  };
  return { element, show };
}

const kinds = {
  speech(element) {
    const speaker = node("span", "visually-hidden", "You spoke: ");
    const waveform = createWaveform();
    const words = node("span", "duration");
    element.append(node("div", "bubble", speaker, waveform, words));
    return ({ status, durationMs, levels }) => {
      element.dataset.status = status;
      drawWaveform(waveform, status === "speaking" ? levels.slice(-MOST_STROKES) : levels);
      words.textContent = durationMs === null ? SPEECH_MARK[status] : duration(durationMs);
    };
  },

  typed(element) {
    const words = node("span");
    const speaker = node("span", "visually-hidden", "You typed: ");
    element.append(node("div", "bubble", speaker, words));
    return ({ text }) => {
      words.textContent = text;
    };
  },

  reply(element) {
    const speaker = node("span", "visually-hidden", "Assistant: ");
    const words = document.createTextNode("");
    const mark = node("span", "mark");
    const cost = node("p", "usage");
    const times = node("p", "latency");
    element.append(node("p", "text", speaker, words, mark), times, cost);
    return ({ status, text, detail, usage: spent, latency: taken }) => {
      element.dataset.status = status;
      // Appended to rather than replaced, so that a selection in it lives on.
      words.appendData(text.slice(words.length));
      mark.textContent = [REPLY_MARK[status], detail].filter(Boolean).join(": ");
      times.textContent = taken ? latency(taken) : "";
      cost.textContent = spent ? usage(spent) : "";
    };
  },

  error(element) {
    const words = node("p");
    element.append(words);
    return ({ text }) => {
      words.textContent = text;
    };
  },

  break(element) {
    element.append(node("p", "", NEW_CALL));
    return () => {};
  },
};

function node(name, className = "", ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}
