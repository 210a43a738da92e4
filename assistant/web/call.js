// One call: the microphone goes out over WebRTC, events come and go over a websocket.
//
// A call is an AbortController: aborting it frees all that the call holds, and the reason says
// why it ended. What breaks by itself aborts it with a CallError; the first reason stands.

const MICROPHONE = {
  audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 },
};

const MICROPHONE_ERRORS = {
  NotAllowedError: "microphone-refused",
  NotFoundError: "microphone-missing",
  NotReadableError: "microphone-busy",
};

/** Why there is no call. `code` is a key of FAILURE in words.js, `message` the server's own words. */
export class CallError extends Error {
  constructor(code, message = "") {
    super(message);
    this.code = code;
  }
}

/** Do `free` when `call` ends, at once if it already has. */
export function whenEnded(call, free) {
  if (call.signal.aborted) free();
  else call.signal.addEventListener("abort", free);
}

/** The microphone's MediaStream, for as long as `call` lasts. */
export async function openMicrophone(call) {
  if (!navigator.mediaDevices) throw new CallError("insecure");
  const microphone = await navigator.mediaDevices.getUserMedia(MICROPHONE).catch((error) => {
    throw new CallError(MICROPHONE_ERRORS[error.name] ?? "microphone-busy");
  });
  const [track] = microphone.getAudioTracks();
  whenEnded(call, () => track.stop());
  track.addEventListener("ended", () => call.abort(new CallError("microphone-gone")));
  call.signal.throwIfAborted();
  return microphone;
}

/**
 * Send `microphone` to the server for as long as `call` lasts; `onEvent` gets the server's events.
 * Once the call is open, returns a function that sends the server an event.
 */
export async function openCall(call, { microphone, key, onEvent }) {
  const peer = new RTCPeerConnection();
  whenEnded(call, () => peer.close());
  microphone.getTracks().forEach((track) => peer.addTrack(track, microphone));
  await peer.setLocalDescription();
  const { id, answer } = await offer(call, peer.localDescription.sdp, key);
  const ended = new Promise((_, reject) => whenEnded(call, () => reject(call.signal.reason)));
  const opened = Promise.all([attach(call, id, { key, onEvent }), connect(call, peer, answer)]);
  const [socket] = await Promise.race([opened, ended]);
  return (event) => socket.send(JSON.stringify(event));
}

async function offer(call, sdp, key) {
  const headers = { "Content-Type": "application/sdp" };
  if (key) headers.Authorization = `Bearer ${key}`;
  const request = { method: "POST", headers, body: sdp, signal: call.signal };
  const response = await fetch(endpoint("v1/realtime/calls"), request).catch(() => {
    throw new CallError("unreachable");
  });
  const body = await response.text();
  if (response.status === 401) throw new CallError(key ? "key-wrong" : "key-missing");
  if (!response.ok) throw refusal(response.status, body);
  return { id: response.headers.get("Location").split("/").pop(), answer: body };
}

function refusal(status, body) {
  const code = status === 503 ? "full" : "rejected";
  try {
    return new CallError(code, JSON.parse(body).error.message);
  } catch {
    return new CallError(code, `HTTP ${status}`); // not our server's answer: some proxy's
  }
}

/** The websocket that carries the call's events, once it is open. */
function attach(call, id, { key, onEvent }) {
  const url = endpoint("v1/realtime");
  url.protocol = url.protocol.replace("http", "ws");
  url.searchParams.set("call_id", id);
  // A browser can't set a websocket's headers: the protocol takes the key as a subprotocol.
  const subprotocols = key ? ["realtime", `openai-insecure-api-key.${key}`] : ["realtime"];
  const socket = new WebSocket(url, subprotocols);
  whenEnded(call, () => socket.close());
  socket.addEventListener("message", ({ data }) => onEvent(JSON.parse(data)));
  socket.addEventListener("close", ({ reason }) => call.abort(new CallError("lost", reason)));
  return new Promise((resolve) => socket.addEventListener("open", () => resolve(socket)));
}

/** Take the server's answer; resolves when audio can flow. */
async function connect(call, peer, answer) {
  const connected = new Promise((resolve) => {
    let failure = "blocked";
    peer.addEventListener("connectionstatechange", () => {
      if (peer.connectionState === "failed") call.abort(new CallError(failure));
      if (peer.connectionState !== "connected") return;
      failure = "lost";
      resolve();
    });
  });
  await peer.setRemoteDescription({ type: "answer", sdp: answer });
  await connected;
}

/** `path` on the server that this page came from, wherever that is mounted. */
function endpoint(path) {
  return new URL(path, document.baseURI);
}
