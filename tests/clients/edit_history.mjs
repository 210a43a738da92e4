// Edit a conversation's history through the OpenAI Agents SDK.
//
//     node edit_history.mjs ws://127.0.0.1:8000/v1/realtime ../../examples/node/node_modules

const [url, modules] = process.argv.slice(2);
const sdk = await import(`${modules}/@openai/agents-realtime/dist/index.mjs`);

const session = new sdk.RealtimeSession(new sdk.RealtimeAgent({ name: "assistant" }), {
  transport: "websocket",
  config: { outputModalities: ["text"] },
});
const print = (what) => console.log(JSON.stringify(what));
const answered = async (text) => {
  const end = new Promise((resolve) => session.once("agent_end", resolve));
  session.sendMessage(text);
  await end;
};

session.on("error", ({ error }) => print({ error }));
await session.connect({ url, apiKey: process.env.OPENAI_API_KEY });
await answered("first question");
await answered("second question");
session.updateHistory(([question, answer, removed, ...rest]) => [
  { ...question, itemId: "item_new", content: [{ type: "input_text", text: "inserted" }] },
  question,
  { ...answer, content: [{ type: "output_text", text: "changed" }] },
  ...rest,
]);
await answered("third question");
print({ history: session.history.map(({ role, content }) => [role, content[0].text]) });
session.close();
