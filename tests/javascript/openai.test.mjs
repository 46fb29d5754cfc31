import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import OpenAI from "openai";

import { GATEWAY, LAST_RESORT, MODELS, PIXEL, QUESTION, USER, WEATHER, call, collected, providers, received, soon } from "./setting.mjs";

const gpt = new OpenAI({ baseURL: `${GATEWAY}/v1`, apiKey: "the-callers-key", maxRetries: 0 });
const tools = [{ type: "function", function: { name: "weather", parameters: WEATHER } }];
const said = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta?.content ?? "").join("");
const ends = (chunks) => chunks.map((chunk) => chunk.choices[0]?.finish_reason).filter(Boolean);

beforeEach(() => providers());

for (const model of MODELS) {
  describe(model, () => {
    test("answers a chat", async () => {
      const { data, response } = await gpt.chat.completions.create({ model, messages: USER }).withResponse();
      assert.equal(data.choices[0].message.content, QUESTION);
      assert.equal(data.choices[0].finish_reason, "stop");
      assert.equal(data.usage.total_tokens, 10);
      assert.equal(response.headers.get("x-holdfast-model"), model);
      assert.equal(response.headers.get("x-holdfast-cost"), "0.000060000");
      assert.equal((await call(response.headers.get("x-holdfast-call"))).outcome, "answered");
      assert.doesNotMatch(JSON.stringify(await received(model)), /the-callers-key/);
    });

    test("streams a chat", async () => {
      const stream_options = { include_usage: true };
      const chunks = await collected(await gpt.chat.completions.create({ model, messages: USER, stream: true, stream_options }));
      assert.equal(said(chunks), QUESTION);
      assert.deepEqual(ends(chunks), ["stop"]);
      assert.equal(chunks.at(-1).usage.completion_tokens, 5);
      assert.equal(chunks.at(-1).holdfast.model, model);
      assert.equal(chunks.at(-1).holdfast.outcome, "answered");
    });

    test("streams through the helper", async () => {
      const stream = gpt.chat.completions.stream({ model, messages: USER });
      const final = await stream.finalChatCompletion();
      assert.equal(final.choices[0].message.content, QUESTION);
    });

    test("calls tools, whole and streamed, and takes their results", async () => {
      const reply = await gpt.chat.completions.create({ model, messages: USER, tools, tool_choice: "required" });
      const [asked] = reply.choices[0].message.tool_calls;
      assert.deepEqual(JSON.parse(asked.function.arguments), { city: QUESTION, days: 2 });
      assert.equal(reply.choices[0].finish_reason, "tool_calls");
      const final = await gpt.chat.completions.stream({ model, messages: USER, tools }).finalChatCompletion();
      assert.equal(final.choices[0].message.tool_calls[0].function.arguments, asked.function.arguments);
      const result = { role: "tool", tool_call_id: asked.id, content: "3 metres of rain" };
      const messages = [...USER, reply.choices[0].message, result];
      const next = await gpt.chat.completions.create({ model, messages, tools });
      assert.equal(next.choices[0].message.content, QUESTION);
      assert.match(JSON.stringify((await received(model)).at(-1).body), /3 metres of rain/);
    });

    test("runs tools by itself through the helper", async () => {
      const run = ({ city, days }) => `${days} days in ${city}`;
      const own = [{ type: "function", function: { name: "weather", parameters: WEATHER, parse: JSON.parse, function: run } }];
      const runner = gpt.chat.completions.runTools({ model, messages: USER, tools: own });
      assert.equal(await runner.finalContent(), QUESTION);
      assert.match(JSON.stringify((await received(model)).at(-1).body), /2 days in How deep/);
    });

    test("sees images", async () => {
      const image = { type: "image_url", image_url: { url: `data:image/png;base64,${PIXEL}` } };
      const messages = [{ role: "user", content: [{ type: "text", text: QUESTION }, image] }];
      const reply = await gpt.chat.completions.create({ model, messages });
      assert.equal(reply.choices[0].message.content, QUESTION);
      assert.ok(JSON.stringify((await received(model))[0].body).includes(PIXEL));
    });

    test("answers with the object that is described", async () => {
      const schema = { type: "object", properties: { metres: { type: "integer" } }, required: ["metres"], additionalProperties: false };
      const response_format = { type: "json_schema", json_schema: { name: "depth", strict: true, schema } };
      const reply = await gpt.chat.completions.parse({ model, messages: USER, response_format });
      assert.deepEqual(JSON.parse(reply.choices[0].message.content), { metres: 1 });
    });

    for (const how of ["cut=3", "reset=3", "error_event=3", "cut=end"]) {
      test(`throws where a stream breaks: ${how}`, async () => {
        await providers({ models: { [model]: `words=9,${how}` } });
        const seen = [];
        await assert.rejects(async () => {
          for await (const chunk of await gpt.chat.completions.create({ model, messages: USER, stream: true })) seen.push(chunk);
        }, OpenAI.APIError);
        assert.ok(said(seen));
        assert.deepEqual(ends(seen), []);
      });
    }

    test("is cancelled at the provider when the caller hangs up", async () => {
      await providers({ models: { [model]: "words=500,tps=100" } });
      const stream = await gpt.chat.completions.create({ model, messages: USER, stream: true });
      for await (const chunk of stream) if (said([chunk])) break;
      await soon(async () => (await received(model))[0].hung_up_at);
      await providers({ models: { [model]: "stall=start" } });
      const asked = gpt.chat.completions.create({ model, messages: USER }, { timeout: 150 });
      await assert.rejects(asked, OpenAI.APIConnectionTimeoutError);
      await soon(async () => (await received(model))[0].hung_up_at);
    });
  });
}

for (const model of ["gpt", "gemini"]) {
  test(`${model} embeds, as base64 unless asked otherwise`, async () => {
    const input = ["reset my password", "kelp forests"];
    const usual = await gpt.embeddings.create({ model, input, dimensions: 16 });
    const plain = await gpt.embeddings.create({ model, input, dimensions: 16, encoding_format: "float" });
    assert.deepEqual(usual.data.map((one) => one.embedding.length), [16, 16]);
    usual.data[0].embedding.forEach((value, i) => assert.ok(Math.abs(value - plain.data[0].embedding[i]) < 1e-6));
  });
}

for (const [how, error, status, code] of [
  ["status=400", OpenAI.BadRequestError, 400, "bad_request"],
  ["status=401", OpenAI.InternalServerError, 502, "provider_authentication"],
  ["status=429,retry_after=7", OpenAI.RateLimitError, 429, "rate_limit_exceeded"],
  ["status=503", OpenAI.InternalServerError, 503, "overloaded"],
  ["context=2", OpenAI.BadRequestError, 400, "context_length_exceeded"],
  ["reset=start", OpenAI.InternalServerError, 502, "connection_failed"],
]) {
  test(`a failure is the SDK's own error: ${how}`, async () => {
    await providers({ models: { gpt: how } });
    for (const stream of [false, true]) {
      await assert.rejects(gpt.chat.completions.create({ model: "gpt", messages: USER, stream }), (thrown) => {
        assert.ok(thrown instanceof error, `${thrown}`);
        assert.deepEqual([thrown.status, thrown.code], [status, code]);
        return true;
      });
    }
  });
}

test("what is wrong with a request is named", async () => {
  await assert.rejects(gpt.chat.completions.create({ model: "gpt", messages: USER, temperature: 9 }), { param: "temperature" });
  await assert.rejects(gpt.chat.completions.create({ model: "nope", messages: USER }), OpenAI.NotFoundError);
});

test("the SDK retries as long as the provider asks", async () => {
  await providers({ models: { gpt: { steps: ["status=429,retry_after=1"] } } });
  const reply = await gpt.chat.completions.create({ model: "gpt", messages: USER }, { maxRetries: 2 });
  assert.equal(reply.choices[0].message.content, QUESTION);
  const [first, second] = await received("gpt");
  assert.ok(second.at - first.at >= 1 && second.at - first.at < 2);
});

test("models and features are listed", async () => {
  const ids = (await collected(await gpt.models.list())).map((model) => model.id);
  for (const id of [...MODELS, "answer"]) assert.ok(ids.includes(id), id);
  assert.equal((await gpt.models.retrieve("answer")).id, "answer");
});

test("a feature falls back, ends in its last resort and keeps its deadline", async () => {
  await providers({ models: { gpt: "status=503" } });
  const { data, response } = await gpt.chat.completions.create({ model: "answer", messages: USER }).withResponse();
  assert.deepEqual([data.choices[0].message.content, response.headers.get("x-holdfast-model")], [QUESTION, "claude"]);
  await providers({ default: "status=503" });
  const chunks = await collected(await gpt.chat.completions.create({ model: "careful", messages: USER, stream: true }));
  assert.deepEqual([said(chunks), chunks.at(-1).holdfast.outcome], [LAST_RESORT, "last_resort"]);
  await providers({ default: "stall=start" });
  const headers = { "x-holdfast-deadline-ms": "150" };
  await assert.rejects(gpt.chat.completions.create({ model: "answer", messages: USER }, { headers }), { status: 504 });
});

test("hints go in a header or in the body, and nothing of them to the provider", async () => {
  const holdfast = { session: `s-${process.pid}`, tags: { from: "javascript" } };
  const { response } = await gpt.chat.completions.create({ model: "gpt", messages: USER, holdfast }).withResponse();
  assert.equal((await call(response.headers.get("x-holdfast-call"))).session, holdfast.session);
  assert.doesNotMatch(JSON.stringify((await received("gpt"))[0].body), /holdfast/);
});
