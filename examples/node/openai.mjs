// Converse with the server through the openai package.
//
//     node openai.mjs https://127.0.0.1:8000/v1 [browser]
//
// Each line of input is typed or, where it names a .wav file (16-bit mono at 24 kHz), spoken; what
// happens is printed as lines of JSON. The key is taken from OPENAI_API_KEY. The package speaks
// TLS only: a certificate that the server made for itself is trusted by NODE_EXTRA_CA_CERTS=FILE.
// "browser" takes the class for browsers, which needs nothing of Node.

import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";

import OpenAI from "openai";
import { OpenAIRealtimeWebSocket } from "openai/realtime/websocket";
import { OpenAIRealtimeWS } from "openai/realtime/ws";

const WAV_HEADER_BYTES = 44;
const [baseURL, kind] = process.argv.slice(2);

const client = new OpenAI({ baseURL, apiKey: process.env.OPENAI_API_KEY ?? "none" });
const Realtime = kind === "browser" ? OpenAIRealtimeWebSocket : OpenAIRealtimeWS;
const realtime = new Realtime({ model: "any" }, client);

const print = (what) => console.log(JSON.stringify(what));
const text = ({ content }) => content.map((part) => part.text ?? "(speech)").join(" ");
const history = [];

realtime.on("response.output_text.delta", ({ delta }) => print({ text: delta }));
realtime.on("response.done", ({ response }) =>
  print({ reply: response.output.map(text).join(" ") }),
);
realtime.on("conversation.item.done", ({ item }) => history.push([item.role, text(item)]));
realtime.on("error", ({ message }) => print({ error: message }));

await new Promise((resolve) => realtime.socket.addEventListener("open", resolve));
for await (const line of createInterface({ input: process.stdin })) {
  if (line.endsWith(".wav")) {
    const sound = (await readFile(line)).subarray(WAV_HEADER_BYTES);
    realtime.send({ type: "input_audio_buffer.append", audio: sound.toString("base64") });
  } else {
    const content = [{ type: "input_text", text: line }];
    realtime.send({
      type: "conversation.item.create",
      item: { type: "message", role: "user", content },
    });
    realtime.send({ type: "response.create" });
  }
}
print({ history });
realtime.close();
