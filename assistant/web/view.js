// The state on the screen. Text gets in as text only: what a model says is never read as HTML.

import { activity } from "./conversation.js";
import { createTurn } from "./turns.js";
import { ACTIVITY, announcement, BUTTON, FAILURE } from "./words.js";

/** Within this distance of its end, the conversation follows what is added to it. */
const FOLLOW_PX = 64;

const element = (id) => document.getElementById(id);

/** A function that shows a state; called again with each new one. */
export function createView() {
  const items = new Map(); // a turn's id -> what shows it
  let shown = null;

  return function show(state) {
    const doing = activity(state);
    document.body.dataset.activity = doing;
    setText("activity", ACTIVITY[doing]);
    setText("call-label", BUTTON[state.phase]);
    setText("model", state.model ?? "");
    element("type-form").hidden = state.phase !== "live";
    element("call").hidden = asksForKey(state.failure);
    element("stop-reply").hidden = state.response === null;
    element("welcome").hidden = state.turns.length > 0;
    if (state.failure !== shown?.failure) showFailure(state.failure);
    if (state.turns !== shown?.turns) following(() => showTurns(state.turns));
    const news = announcement(shown, state);
    if (news !== null) setText("announcer", news);
    shown = state;
  };

  function showTurns(newest) {
    for (const turn of newest) {
      if (!items.has(turn.id)) {
        const item = createTurn(turn);
        element("turns").append(item.element);
        items.set(turn.id, item);
      }
      items.get(turn.id).show(turn);
    }
  }
}

/** Do `change`, and keep the end of the conversation in sight if it was. */
function following(change) {
  const box = element("conversation");
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < FOLLOW_PX;
  change();
  if (atEnd) box.scrollTop = box.scrollHeight;
}

function asksForKey(failure) {
  return ["key-missing", "key-wrong"].includes(failure?.code);
}

function showFailure(failure) {
  element("failure").hidden = failure === null;
  if (failure === null) return;
  const { title, advice } = FAILURE[failure.code];
  setText("failure-title", title);
  setText("failure-advice", advice);
  setText("failure-detail", failure.detail);
  element("key-form").hidden = !asksForKey(failure);
  if (asksForKey(failure)) element("key").focus();
}

/** Leaves an unchanged text alone, so that a screen reader doesn't read it again. */
function setText(id, text) {
  if (element(id).textContent !== text) element(id).textContent = text;
}
