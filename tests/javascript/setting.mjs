// What the tests of the JavaScript SDKs share: the gateway, and the simulated providers behind it.

export const GATEWAY = process.env.HOLDFAST_URL;
const SIMULATOR = process.env.SIMULATOR_URL;

export const MODELS = ["gpt", "claude", "gemini"]; // one on each wire
export const QUESTION = "How deep is the kelp?";
export const USER = [{ role: "user", content: QUESTION }];
export const LAST_RESORT = process.env.LAST_RESORT;
export const PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
export const WEATHER = {
  type: "object",
  properties: { city: { type: "string" }, days: { type: "integer", minimum: 2 } },
  required: ["city", "days"],
};

/** Make the providers behave, and forget what reached them. */
export async function providers(script = {}) {
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`${SIMULATOR}/_simulator/script`, { method: "PUT", headers, body: JSON.stringify(script) });
  if (!answer.ok) throw new Error(await answer.text());
  await fetch(`${SIMULATOR}/_simulator/requests`, { method: "DELETE" });
}

/** What reached the providers since then. */
export async function received(model) {
  const { requests } = await (await fetch(`${SIMULATOR}/_simulator/requests?model=${model}`)).json();
  return requests;
}

/** What `look` finds, as soon as it finds something: the log and the records are written in the background. */
export async function soon(look, seconds = 3) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; ) {
    const found = await look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error("it did not happen");
}

/** A call as the log shows it. */
export function call(id) {
  return soon(async () => {
    const answer = await fetch(`${GATEWAY}/api/calls/${id}`);
    return answer.ok ? answer.json() : null;
  });
}

export async function collected(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}
