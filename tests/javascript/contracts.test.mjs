import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

import { GATEWAY, MODELS, USER, call, collected, providers, received } from "./setting.mjs";

const options = { apiKey: "the-callers-key", maxRetries: 0 };
const gpt = new OpenAI({ baseURL: `${GATEWAY}/v1`, ...options });
const claude = new Anthropic({ baseURL: GATEWAY, ...options });
const { SCHEMA, RIGHT, FENCED, WRONG, PART } = JSON.parse(process.env.CONTRACTS);
const VALUE = JSON.parse(RIGHT);
const format = { type: "json_schema", json_schema: { name: "depth", strict: true, schema: SCHEMA } };
const output_config = { format: { type: "json_schema", schema: SCHEMA } };
const ask = (model, more = {}) => ({ model, messages: USER, max_tokens: 99, ...more });
const said = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta?.content ?? "").join("");
const says = (model, ...answers) =>
  providers({ models: { [model]: { text: answers.at(-1), steps: answers.slice(0, -1).map((text) => ({ text })) } } });

beforeEach(() => providers());

for (const model of MODELS) {
  describe(`the openai package and ${model}`, () => {
    test("gets what the feature promises, whole and streamed", async () => {
      await says(model, FENCED);
      const { data, response } = await gpt.chat.completions.create({ model: `depth-${model}`, messages: USER }).withResponse();
      assert.deepEqual(JSON.parse(data.choices[0].message.content), VALUE);
      const logged = await call(response.headers.get("x-holdfast-call"));
      assert.equal(logged.repairs, logged.ledger.length);
      const chunks = await collected(await gpt.chat.completions.create({ model: `depth-${model}`, messages: USER, stream: true }));
      assert.deepEqual(JSON.parse(said(chunks)), VALUE);
    });

    test("gets an answer that was mended", async () => {
      await says(model, WRONG, PART);
      const reply = await gpt.chat.completions.parse({ model: `plain-${model}`, messages: USER, response_format: format });
      assert.deepEqual(JSON.parse(reply.choices[0].message.content), VALUE);
      assert.match(JSON.stringify((await received(model))[1].body), /\/metres/);
    });

    test("streams through the helper into what a call asks for", async () => {
      await says(model, FENCED);
      const stream = gpt.chat.completions.stream({ model: `plain-${model}`, messages: USER, response_format: format });
      const final = await stream.finalChatCompletion();
      assert.deepEqual(JSON.parse(final.choices[0].message.content), VALUE);
    });

    test("reads objects as they grow, and its helper bears them", async () => {
      await providers({ models: { [model]: { text: RIGHT, tps: 100 } } });
      const headers = { "x-holdfast-stream": "object" };
      const stream = await gpt.chat.completions.create({ model: `depth-${model}`, messages: USER, stream: true }, { headers });
      const chunks = await collected(stream);
      const told = chunks.map((chunk) => chunk.holdfast).filter((one) => one?.event === "object");
      assert.ok(told.length > 2);
      assert.deepEqual(told.at(-1), { event: "object", object: VALUE, complete: ["/place", "/metres", ""] });
      assert.equal(said(chunks), RIGHT);
      const helped = gpt.chat.completions.stream({ model: `objects-${model}`, messages: USER });
      assert.equal((await helped.finalChatCompletion()).choices[0].message.content, RIGHT);
    });

    test("throws its own error where no answer will do", async () => {
      await says(model, "no");
      for (const stream of [false, true]) {
        const asked = gpt.chat.completions.create({ model: `depth-${model}`, messages: USER, stream });
        await assert.rejects(asked, (thrown) => {
          assert.ok(thrown instanceof OpenAI.InternalServerError, `${thrown}`);
          assert.deepEqual([thrown.status, thrown.code], [502, "contract_violated"]);
          return true;
        });
      }
    });

    test("throws in the middle of a stream that is passed on", async () => {
      await providers({ models: { [model]: { text: WRONG, tps: 100 } } });
      const chunks = [];
      await assert.rejects(async () => {
        for await (const chunk of await gpt.chat.completions.create({ model: `passed-${model}`, messages: USER, stream: true }))
          chunks.push(chunk);
      }, { code: "contract_violated" });
      assert.ok(said(chunks) && WRONG.startsWith(said(chunks)));
    });
  });

  describe(`the anthropic package and ${model}`, () => {
    test("gets what the feature promises, whole and streamed", async () => {
      await says(model, FENCED);
      assert.deepEqual(JSON.parse((await claude.messages.create(ask(`depth-${model}`))).content[0].text), VALUE);
      const final = await claude.messages.stream(ask(`depth-${model}`)).finalMessage();
      assert.deepEqual(JSON.parse(final.content[0].text), VALUE);
    });

    test("gets what a call asks for", async () => {
      await says(model, WRONG, PART);
      const reply = await claude.messages.create(ask(`plain-${model}`, { output_config }));
      assert.deepEqual(JSON.parse(reply.content[0].text), VALUE);
    });

    test("reads objects as they grow, and its helper bears them", async () => {
      await providers({ models: { [model]: { text: RIGHT, tps: 100 } } });
      const events = await collected(await claude.messages.create(ask(`objects-${model}`, { stream: true })));
      const told = events.filter((event) => event.type === "holdfast.object").map((event) => event.holdfast);
      assert.deepEqual(told.at(-1), { event: "object", object: VALUE, complete: ["/place", "/metres", ""] });
      assert.deepEqual([events[0].type, events.at(-1).type], ["message_start", "message_stop"]);
      const final = await claude.messages.stream(ask(`objects-${model}`)).finalMessage();
      assert.equal(final.content[0].text, RIGHT);
    });

    test("throws its own error where no answer will do", async () => {
      await says(model, "no");
      for (const stream of [false, true]) {
        await assert.rejects(claude.messages.create(ask(`depth-${model}`, { stream })), (thrown) => {
          assert.ok(thrown instanceof Anthropic.InternalServerError, `${thrown}`);
          assert.equal(thrown.status, 502);
          assert.match(thrown.message, /does not meet its contract/);
          return true;
        });
      }
    });
  });
}

test("a schema that can not be used is named", async () => {
  const schema = { properties: { a: { type: "no" } } };
  const broken = { type: "json_schema", json_schema: { name: "b", schema } };
  await assert.rejects(gpt.chat.completions.create({ model: "gpt", messages: USER, response_format: broken }), {
    status: 400,
    param: "response_format.json_schema.schema",
  });
  const asked = claude.messages.create(ask("claude", { output_config: { format: { type: "json_schema", schema } } }));
  await assert.rejects(asked, /output_config\.format\.schema/);
});
