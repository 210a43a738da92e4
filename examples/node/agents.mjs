// Converse with the server through the OpenAI Agents SDK.
//
//     node agents.mjs ws://127.0.0.1:8000/v1/realtime
//
// Each line of input is typed or, where it names a .wav file (16-bit mono at 24 kHz), spoken; what
// happens is printed as lines of JSON. The key is taken from OPENAI_API_KEY.

import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";

import { RealtimeAgent, RealtimeSession, tool } from "@openai/agents-realtime";
import { z } from "zod";

const WAV_HEADER_BYTES = 44;
const [url] = process.argv.slice(2);

const add = tool({
  name: "add",
  description: "Add two numbers.",
  parameters: z.object({ a: z.number(), b: z.number() }),
  execute: ({ a, b }) => String(a + b),
});
const session = new RealtimeSession(new RealtimeAgent({ name: "assistant", tools: [add] }), {
  transport: "websocket",
  config: { outputModalities: ["text"] },
});

const print = (what) => console.log(JSON.stringify(what));
const messages = () => session.history.filter(({ type }) => type === "message");
const text = ({ content }) =>
  content.map((part) => part.text ?? part.transcript ?? "(speech)").join(" ");

session.on("transport_event", ({ type, delta }) => {
  if (type === "response.output_text.delta") print({ text: delta });
});
session.on("agent_end", () => {
  const last = messages().at(-1);
  if (last.role === "assistant") print({ reply: text(last) });
});
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
print({ history: messages().map((item) => [item.role, text(item)]) });
session.close();
