// Converse with the server through the OpenAI Agents SDK.
//
//     node agents.mjs ws://127.0.0.1:8000/v1/realtime
//
// Each line of input is typed or, where it names a .wav file (16-bit mono at 24 kHz), spoken; what
// happens is printed as lines of JSON. The key is taken from OPENAI_API_KEY.

import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";

import { RealtimeAgent, RealtimeSession } from "@openai/agents-realtime";

const WAV_HEADER_BYTES = 44;
const [url] = process.argv.slice(2);

const session = new RealtimeSession(new RealtimeAgent({ name: "assistant" }), {
  transport: "websocket",
  config: { outputModalities: ["text"] },
});

const print = (what) => console.log(JSON.stringify(what));
const text = ({ content }) => content.map((part) => part.text ?? "(speech)").join(" ");

session.on("transport_event", ({ type, delta }) => {
  if (type === "response.output_text.delta") print({ text: delta });
});
session.on("agent_end", () => print({ reply: text(session.history.at(-1)) }));
session.on("error", ({ error }) => print({ error: String(error.error?.message ?? error) }));

await session.connect({ url, apiKey: process.env.OPENAI_API_KEY ?? "none" });
for await (const line of createInterface({ input: process.stdin })) {
  if (line.endsWith(".wav")) {
    const { buffer, byteOffset, byteLength } = await readFile(line);
    session.sendAudio(buffer.slice(byteOffset + WAV_HEADER_BYTES, byteOffset + byteLength));
  } else {
    session.sendMessage(line);
  }
}
print({ history: session.history.map((item) => [item.role, text(item)]) });
session.close();
