// What the page shows, as one value, and how each event changes it.
// Pure: no document, no clock, no network. States are never changed in place.
//
// Events come from two sides: those of the OpenAI Realtime protocol, as the server sends them,
// and those of the call itself (`call.…`, `microphone.level`), made by app.js.
//
//   phase: idle -> asking -> connecting -> live -> ended
//                  ^                                |
//                  +--------------------------------+   (a failure can end any phase)
//
// A turn is one of
//   {id, kind: "speech", status, startMs, durationMs, levels}   status: speaking | spoken | unheard
//   {id, kind: "typed", text}
//   {id, kind: "reply", status, text, detail, usage, latency}            status: see REPLY_STATUS
//   {id, kind: "error", text}
//   {id, kind: "break"}          a new call began, which remembers nothing of the turns above

/** Time that one entry of `levels` stands for. */
export const LEVEL_MS = 80;
/** Levels kept from before speech is reported: the server reports it after hearing some of it. */
const LEVELS_BEFORE_SPEECH = 6;

export const initialState = Object.freeze({
  phase: "idle",
  failure: null, // {code, detail}: why the last call couldn't begin or ended
  model: null, // the model's name, once the server has told it
  speech: null, // id of the turn being spoken
  response: null, // id of the reply being made
  levels: [], // the newest microphone levels, 0 to 1
  turns: [],
});

/** The state after `event`; the same object when the event changes nothing. */
export function reduce(state, event) {
  return Object.hasOwn(handlers, event.type) ? handlers[event.type](state, event) : state;
}

/** What is going on: a phase, or within a live call listening | hearing | thinking | replying. */
export function activity(state) {
  if (state.phase !== "live") return state.phase;
  if (state.speech !== null) return "hearing";
  if (state.response === null) return "listening";
  return findTurn(state, state.response).text === "" ? "thinking" : "replying";
}

const handlers = {
  "call.starting": (state) => ({
    ...initialState,
    phase: "asking",
    model: state.model,
    turns: state.turns.length === 0 ? [] : [...state.turns, startOfCall(state)],
  }),

  "call.connecting": (state) => ({ ...state, phase: "connecting" }),

  "call.live": (state) => ({ ...state, phase: "live" }),

  "call.ended": (state) => ended(state, null),

  "call.failed": (state, { code, detail }) => ended(state, { code, detail }),

  "microphone.level": (state, { level }) => {
    const levels = [...state.levels, level].slice(-LEVELS_BEFORE_SPEECH);
    const next = { ...state, levels };
    if (state.speech === null) return next;
    return withTurn(next, state.speech, (turn) => ({ levels: [...turn.levels, level] }));
  },

  "session.created": (state, { session }) => ({ ...state, model: session.model }),

  "input_audio_buffer.speech_started": (state, { item_id, audio_start_ms }) => ({
    ...state,
    speech: item_id,
    turns: [
      ...state.turns,
      {
        id: item_id,
        kind: "speech",
        status: "speaking",
        startMs: audio_start_ms,
        durationMs: null,
        levels: state.levels,
      },
    ],
  }),

  "input_audio_buffer.speech_stopped": (state, { item_id, audio_end_ms }) =>
    withTurn({ ...state, speech: null }, item_id, (turn) => {
      const durationMs = audio_end_ms - turn.startMs;
      return {
        status: "spoken",
        durationMs,
        // Without the silence that the server waited for before it called the turn over.
        levels: turn.levels.slice(0, Math.ceil(durationMs / LEVEL_MS)),
      };
    }),

  "conversation.item.added": (state, { item }) => {
    const typed = item.role === "user" && item.content.find((part) => part.type === "input_text");
    if (!typed) return state;
    return { ...state, turns: [...state.turns, { id: item.id, kind: "typed", text: typed.text }] };
  },

  "response.created": (state, { response }) => ({
    ...state,
    response: response.id,
    turns: [
      ...state.turns,
      { id: response.id, kind: "reply", status: "replying", text: "", detail: null, usage: null, latency: null },
    ],
  }),

  "response.output_text.delta": (state, { response_id, delta }) =>
    withTurn(state, response_id, (turn) => ({ text: turn.text + delta })),

  "response.done": (state, { response }) =>
    withTurn({ ...state, response: null }, response.id, () => ({
      status: replyStatus(response),
      detail: response.status_details?.error?.message ?? null,
      usage: response.usage && {
        outputTokens: response.usage.output_tokens,
        inputTokens: response.usage.input_tokens,
        cachedTokens: response.usage.input_token_details.cached_tokens,
      },
      latency: latencyOf(response),
    })),

  error: (state, { event_id, error }) =>
    // The reply was over before the wish to stop it arrived: nothing a person has to know.
    error.code === "response_cancel_not_active"
      ? state
      : { ...state, turns: [...state.turns, { id: event_id, kind: "error", text: error.message }] },
};

/** Where a reply's time went, in ms: what its metadata tells, and null for the rest. */
function latencyOf({ metadata, usage }) {
  const ms = (name) => (metadata?.[`latency.${name}_ms`] ? Number(metadata[`latency.${name}_ms`]) : null);
  const firstTokenMs = ms("first_token");
  if (firstTokenMs === null) return null;
  const restMs = ms("total") - firstTokenMs;
  return {
    holdMs: ms("turn_end") === null ? null : ms("turn_end") - ms("speech_end"),
    firstTokenMs,
    tokensPerS: usage && restMs > 0 ? ((usage.output_tokens - 1) * 1000) / restMs : null,
    begunInPause: metadata["latency.speculation"] === "hit",
  };
}

/** How a reply ended, by the protocol's status and, where it was cancelled, the reason. */
const REPLY_STATUS = {
  completed: "completed",
  "cancelled turn_detected": "interrupted",
  "cancelled client_cancelled": "stopped",
  incomplete: "incomplete",
  failed: "failed",
};

function replyStatus({ status, status_details }) {
  const reason = status === "cancelled" ? `cancelled ${status_details?.reason}` : status;
  return REPLY_STATUS[reason] ?? "stopped";
}

function startOfCall(state) {
  return { id: `break-${state.turns.length}`, kind: "break" };
}

/** The call is over: what was still open in it stays as it is, and is marked so. */
function ended(state, failure) {
  const turns = state.turns.map((turn) => {
    if (turn.status === "speaking") return { ...turn, status: "unheard" };
    if (turn.status === "replying") return { ...turn, status: "unfinished" };
    return turn;
  });
  return { ...state, phase: "ended", failure, speech: null, response: null, turns };
}

function findTurn(state, id) {
  return state.turns.findLast((turn) => turn.id === id);
}

function withTurn(state, id, changes) {
  const found = findTurn(state, id);
  if (found === undefined) return state;
  const changed = { ...found, ...changes(found) };
  return { ...state, turns: state.turns.map((turn) => (turn === found ? changed : turn)) };
}
