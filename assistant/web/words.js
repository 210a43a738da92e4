// Everything the page says by itself, in words. Pure.

/** What is going on, by `activity()`. */
export const ACTIVITY = {
  idle: "Ready when you are",
  asking: "Waiting for the microphone",
  connecting: "Connecting",
  listening: "Listening",
  hearing: "Hearing you",
  thinking: "Thinking",
  replying: "Replying",
  ended: "The call has ended",
};

/** The button that starts and ends a call. */
export const BUTTON = {
  idle: "Start talking",
  asking: "Cancel",
  connecting: "Cancel",
  live: "End",
  ended: "Start again",
};

/** How a reply ended, where it isn't simply complete. */
export const REPLY_MARK = {
  interrupted: "You interrupted",
  stopped: "Stopped",
  incomplete: "Cut off at the length limit",
  failed: "The reply failed",
  unfinished: "The call ended here",
};

/** A spoken turn without a length. */
export const SPEECH_MARK = {
  speaking: "speaking",
  unheard: "the call ended",
};

/** Between the turns of one call and those of the next. */
export const NEW_CALL = "New conversation, the above is forgotten";

/** What went wrong, and what a person can do about it. */
export const FAILURE = {
  insecure: {
    title: "The microphone needs a secure page",
    advice:
      "Browsers give it only to pages on https, and to localhost. Open this page over https, " +
      "or as http://localhost on the machine that runs the server.",
  },
  "microphone-refused": {
    title: "The microphone was refused",
    advice: "Allow it for this page in the browser's site settings, then start again.",
  },
  "microphone-missing": {
    title: "No microphone was found",
    advice: "Connect one, or switch it on in the system's sound settings, then start again.",
  },
  "microphone-busy": {
    title: "The microphone can't be opened",
    advice: "Another program may be using it. Close that program, then start again.",
  },
  "microphone-gone": {
    title: "The microphone is gone",
    advice: "It was unplugged or switched off. Connect it, then start again.",
  },
  unreachable: {
    title: "The server can't be reached",
    advice: "Check that it is running, then start again.",
  },
  "key-missing": {
    title: "This server asks for a key",
    advice: "Enter the API key that it was started with. It is kept until this tab closes.",
  },
  "key-wrong": {
    title: "The key was not accepted",
    advice: "Enter the API key that the server was started with.",
  },
  full: {
    title: "The server can't take a call now",
    advice: "Try again in a moment.",
  },
  rejected: {
    title: "The call could not be made",
    advice: "Reload the page, then start again.",
  },
  blocked: {
    title: "The audio doesn't get through",
    advice: "The server answered, but a firewall may be blocking UDP between here and there.",
  },
  lost: {
    title: "Connection lost",
    advice: "What was said stays on this page. Start again for a new conversation.",
  },
};

/** "3.2 s", from a minute on "1:05 min". */
export function duration(ms) {
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")} min`;
}

/** What a reply cost, in a line. */
export function usage({ outputTokens, inputTokens, cachedTokens }) {
  const output = outputTokens === 1 ? "1 token" : `${outputTokens} tokens`;
  const cached = cachedTokens > 0 ? `${cachedTokens} of ` : "";
  const origin = cachedTokens > 0 ? " from cache" : "";
  return `${output} · ${cached}${inputTokens} input tokens${origin}`;
}

/** Where the time of a reply went, in a line. */
export function latency({ holdMs, firstTokenMs, tokensPerS, begunInPause }) {
  const parts = [];
  if (holdMs !== null) parts.push(`turn over ${duration(holdMs)} after the last word`);
  const origin = begunInPause ? ", begun in the pause" : "";
  parts.push(`first token after ${firstTokenMs} ms${origin}`);
  if (tokensPerS !== null) parts.push(`${Math.round(tokensPerS)} tokens/s`);
  return parts.join(" · ");
}

/**
 * What a screen reader has to say about going from one state to the next, or null. Replies are
 * read when they are whole: read as they grow, each token would cut off the one before. A failure is an alert of its own.
 */
export function announcement(before, after) {
  if (before === null || after.failure !== null) return null;
  if (after.phase !== before.phase) return ACTIVITY[after.phase] ?? ACTIVITY.listening;
  if (before.response === null || after.response !== null) return null;
  const reply = after.turns.findLast((turn) => turn.id === before.response);
  return [reply.text, REPLY_MARK[reply.status]].filter(Boolean).join("\n");
}
