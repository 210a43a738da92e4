// The page's wiring: clicks start and end calls, a call's events change the state, the view shows it.

import { CallError, openCall, openMicrophone, whenEnded } from "./call.js";
import { initialState, reduce } from "./conversation.js";
import { watchLevel } from "./meter.js";
import { createView } from "./view.js";

const KEY = "api-key";

const element = (id) => document.getElementById(id);
const show = createView();
let state = initialState;
let call = null; // an AbortController, see call.js
let send = null; // to the server of a live call

function dispatch(event) {
  const next = reduce(state, event);
  if (next === state) return;
  state = next;
  show(state);
}

async function start() {
  const started = new AbortController();
  call = started;
  whenEnded(started, () => ended(started.signal.reason));
  dispatch({ type: "call.starting" });
  try {
    const microphone = await openMicrophone(started);
    dispatch({ type: "call.connecting" });
    watchLevel(started, microphone, {
      onFrame: (level) => element("meter").style.setProperty("--level", level),
      onLevel: (level) => dispatch({ type: "microphone.level", level }),
    });
    const key = sessionStorage.getItem(KEY);
    send = await openCall(started, { microphone, key, onEvent: dispatch });
    dispatch({ type: "call.live" });
  } catch (error) {
    started.abort(error);
  }
}

/** Hang up; unlike whatever else ends a call, this is no failure. */
function end() {
  call.abort(null);
}

function ended(reason) {
  call = null;
  send = null;
  if (reason === null) {
    dispatch({ type: "call.ended" });
    return;
  }
  const { code, message } =
    reason instanceof CallError ? reason : new CallError("rejected", String(reason));
  if (code === "key-wrong") sessionStorage.removeItem(KEY);
  dispatch({ type: "call.failed", code, detail: message });
}

function say(text) {
  if (state.response !== null) stopReply();
  const content = [{ type: "input_text", text }];
  send({ type: "conversation.item.create", item: { type: "message", role: "user", content } });
  send({ type: "response.create" });
}

function stopReply() {
  send({ type: "response.cancel" });
}

element("call").addEventListener("click", () => (call === null ? start() : end()));

element("stop-reply").addEventListener("click", stopReply);

element("type-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = element("text").value.trim();
  if (text !== "") say(text);
  element("text").value = "";
});

element("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, element("key").value);
  element("key").value = "";
  start();
  element("call").focus();
});

window.addEventListener("pagehide", () => call && end());

show(state);
