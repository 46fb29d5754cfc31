import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import Anthropic from "@anthropic-ai/sdk";

import { GATEWAY, LAST_RESORT, MODELS, PIXEL, QUESTION, USER, WEATHER, call, collected, providers, received, soon } from "./setting.mjs";

const claude = new Anthropic({ baseURL: GATEWAY, apiKey: "the-callers-key", maxRetries: 0 });
const tools = [{ name: "weather", input_schema: WEATHER }];
const ask = (model, more = {}) => ({ model, messages: USER, max_tokens: 99, ...more });

beforeEach(() => providers());

for (const model of MODELS) {
  describe(model, () => {
    test("answers a message", async () => {
      const { data, response } = await claude.messages.create(ask(model)).withResponse();
      assert.equal(data.content[0].text, QUESTION);
      assert.equal(data.stop_reason, "end_turn");
      assert.deepEqual([data.usage.input_tokens, data.usage.output_tokens], [5, 5]);
      assert.equal(response.headers.get("x-holdfast-cost"), "0.000060000");
      assert.equal((await call(response.headers.get("x-holdfast-call"))).wire, "anthropic");
      assert.doesNotMatch(JSON.stringify(await received(model)), /the-callers-key/);
    });

    test("streams a message", async () => {
      const events = await collected(await claude.messages.create(ask(model, { stream: true })));
      const texts = events.filter((event) => event.type === "content_block_delta").map((event) => event.delta.text);
      assert.equal(texts.join(""), QUESTION);
      assert.equal(events.at(-1).type, "message_stop");
      assert.equal(events.at(-1).holdfast.model, model);
      const final = await claude.messages.stream(ask(model)).finalMessage();
      assert.equal(final.content[0].text, QUESTION);
      assert.equal(final.usage.output_tokens, 5);
    });

    test("calls tools, whole and streamed, and takes their results", async () => {
      const reply = await claude.messages.create(ask(model, { tools, tool_choice: { type: "any" } }));
      assert.deepEqual(reply.content[0].input, { city: QUESTION, days: 2 });
      assert.equal(reply.stop_reason, "tool_use");
      const final = await claude.messages.stream(ask(model, { tools })).finalMessage();
      assert.deepEqual(final.content[0].input, { city: QUESTION, days: 2 });
      const result = { type: "tool_result", tool_use_id: reply.content[0].id, content: "3 metres of rain" };
      const messages = [...USER, { role: "assistant", content: reply.content }, { role: "user", content: [result] }];
      const next = await claude.messages.create(ask(model, { messages, tools }));
      assert.equal(next.content[0].text, QUESTION);
      assert.match(JSON.stringify((await received(model)).at(-1).body), /3 metres of rain/);
    });

    test("sees images", async () => {
      const image = { type: "image", source: { type: "base64", media_type: "image/png", data: PIXEL } };
      const messages = [{ role: "user", content: [image, { type: "text", text: QUESTION }] }];
      assert.equal((await claude.messages.create(ask(model, { messages }))).content[0].text, QUESTION);
      assert.ok(JSON.stringify((await received(model))[0].body).includes(PIXEL));
    });

    test("answers with the object that is described", async () => {
      const schema = { type: "object", properties: { metres: { type: "integer" } }, required: ["metres"], additionalProperties: false };
      const output_config = { format: { type: "json_schema", schema } };
      const reply = await claude.messages.create(ask(model, { output_config }));
      assert.deepEqual(JSON.parse(reply.content[0].text), { metres: 1 });
    });

    test("thinks aloud", async () => {
      await providers({ models: { [model]: "reasoning=3" } });
      const final = await claude.messages.stream(ask(model)).finalMessage();
      assert.deepEqual(final.content.map((block) => block.type), ["thinking", "text"]);
      assert.equal(final.content[0].thinking, "kelp anchors where");
    });

    for (const how of ["cut=3", "reset=3", "error_event=3", "cut=end"]) {
      test(`throws where a stream breaks: ${how}`, async () => {
        await providers({ models: { [model]: `words=9,${how}` } });
        const seen = [];
        await assert.rejects(async () => {
          for await (const event of await claude.messages.create(ask(model, { stream: true }))) seen.push(event.type);
        }, Anthropic.APIError);
        assert.ok(seen.includes("content_block_delta"));
        assert.ok(!seen.includes("message_stop") && !seen.includes("message_delta"));
        await assert.rejects(claude.messages.stream(ask(model)).finalMessage(), Anthropic.APIError);
      });
    }

    test("is cancelled at the provider when the caller hangs up", async () => {
      await providers({ models: { [model]: "words=500,tps=100" } });
      const stream = await claude.messages.create(ask(model, { stream: true, max_tokens: 999 }));
      for await (const event of stream) if (event.type === "content_block_delta") break;
      await soon(async () => (await received(model))[0].hung_up_at);
      await providers({ models: { [model]: "stall=start" } });
      await assert.rejects(claude.messages.create(ask(model), { timeout: 150 }), Anthropic.APIConnectionTimeoutError);
      await soon(async () => (await received(model))[0].hung_up_at);
    });
  });
}

for (const [how, error, status, type] of [
  ["status=400", Anthropic.BadRequestError, 400, "invalid_request_error"],
  ["status=401", Anthropic.InternalServerError, 502, "api_error"],
  ["status=429,retry_after=7", Anthropic.RateLimitError, 429, "rate_limit_error"],
  ["status=503", Anthropic.InternalServerError, 503, "overloaded_error"],
  ["context=2", Anthropic.BadRequestError, 400, "invalid_request_error"],
]) {
  test(`a failure is the SDK's own error: ${how}`, async () => {
    await providers({ models: { claude: how } });
    for (const stream of [false, true]) {
      await assert.rejects(claude.messages.create(ask("claude", { stream })), (thrown) => {
        assert.ok(thrown instanceof error, `${thrown}`);
        assert.deepEqual([thrown.status, thrown.error.error.type], [status, type]);
        return true;
      });
    }
  });
}

test("what is wrong with a request is named", async () => {
  await assert.rejects(claude.messages.create(ask("claude", { temperature: 9 })), /temperature/);
  await assert.rejects(claude.messages.create(ask("nope")), Anthropic.NotFoundError);
});

test("the SDK retries as long as the provider asks", async () => {
  await providers({ models: { claude: { steps: ["status=429,retry_after=1"] } } });
  assert.equal((await claude.messages.create(ask("claude"), { maxRetries: 2 })).content[0].text, QUESTION);
  const [first, second] = await received("claude");
  assert.ok(second.at - first.at >= 1 && second.at - first.at < 2);
});

test("models and features are listed", async () => {
  const ids = (await collected(claude.models.list())).map((model) => model.id);
  for (const id of [...MODELS, "answer"]) assert.ok(ids.includes(id), id);
});

test("a feature falls back, ends in its last resort and keeps its deadline", async () => {
  await providers({ models: { gpt: "status=503" } });
  assert.equal((await claude.messages.stream(ask("answer")).finalMessage()).model, "claude");
  await providers({ default: "status=503" });
  const { data, response } = await claude.messages.create(ask("careful")).withResponse();
  assert.deepEqual([data.content[0].text, response.headers.get("x-holdfast-outcome")], [LAST_RESORT, "last_resort"]);
  await providers({ default: "stall=start" });
  const headers = { "x-holdfast-deadline-ms": "150" };
  await assert.rejects(claude.messages.create(ask("answer"), { headers }), { status: 504 });
});
