// The npm package `openai`, against every server of CLIENTS_SERVERS.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const Verdict = z.object({ grade: z.enum(["good", "poor"]), lit: z.boolean() });
const ASK = {
  model: "gpt-4o-mini",
  messages: [{ role: "user", content: "What is the weather? 창은? 😀" }],
  max_tokens: 200,
  temperature: 0,
  seed: 7,
};
const WEATHER = {
  type: "function",
  function: {
    name: "get_weather",
    strict: true,
    parameters: {
      type: "object",
      properties: { city: { type: "string", enum: ["서울", "부산"] } },
      required: ["city"],
      additionalProperties: false,
    },
  },
};

for (const [name, baseURL] of Object.entries(JSON.parse(process.env.CLIENTS_SERVERS))) {
  const client = new OpenAI({ baseURL, apiKey: process.env.CLIENTS_KEY, maxRetries: 0 });

  test(`${name}: create`, async () => {
    const answer = await client.chat.completions.create(ASK);
    assert.equal(answer.choices[0].message.role, "assistant");
    assert.equal(
      answer.usage.total_tokens,
      answer.usage.prompt_tokens + answer.usage.completion_tokens,
    );
    assert.ok(answer._request_id);
  });

  test(`${name}: a stream says what the whole answer says`, async () => {
    const whole = await client.chat.completions.create(ASK);
    let said = "";
    for await (const chunk of await client.chat.completions.create({ ...ASK, stream: true })) {
      said += chunk.choices[0]?.delta?.content ?? "";
    }
    assert.equal(said, whole.choices[0].message.content);
  });

  test(`${name}: usage at the end of a stream`, async () => {
    const options = { ...ASK, stream: true, stream_options: { include_usage: true } };
    let last;
    for await (const chunk of await client.chat.completions.create(options)) last = chunk;
    assert.deepEqual(last.choices, []);
    assert.ok(last.usage.total_tokens > 0);
  });

  test(`${name}: a stream left early`, async () => {
    const stream = await client.chat.completions.create({ ...ASK, stream: true });
    for await (const chunk of stream) {
      assert.equal(chunk.choices[0].delta.role, "assistant");
      break;
    }
    assert.ok((await client.chat.completions.create(ASK)).id);
  });

  test(`${name}: parse`, async () => {
    const answer = await client.chat.completions.parse({
      ...ASK,
      response_format: zodResponseFormat(Verdict, "verdict"),
    });
    Verdict.parse(answer.choices[0].message.parsed);
  });

  test(`${name}: tools and their results`, async () => {
    const tools = { ...ASK, tools: [WEATHER], tool_choice: "required" };
    const { message } = (await client.chat.completions.create(tools)).choices[0];
    const [call] = message.tool_calls;
    assert.ok(["서울", "부산"].includes(JSON.parse(call.function.arguments).city));
    const results = message.tool_calls.map(({ id }) => ({
      role: "tool",
      tool_call_id: id,
      content: "맑음",
    }));
    const answer = await client.chat.completions.create({
      ...ASK,
      messages: [...ASK.messages, message, ...results],
    });
    assert.equal(typeof answer.choices[0].message.content, "string");
  });

  test(`${name}: streamed tools`, async () => {
    const stream = client.chat.completions.stream({
      ...ASK,
      tools: [WEATHER],
      tool_choice: { type: "function", function: { name: "get_weather" } },
    });
    const { message } = (await stream.finalChatCompletion()).choices[0];
    assert.equal(message.tool_calls[0].function.name, "get_weather");
  });

  test(`${name}: embeddings`, async () => {
    const input = ["남향 거실", "kitchen"];
    const model = "text-embedding-3-small";
    const packed = await client.embeddings.create({ model, input });
    const floats = await client.embeddings.create({ model, input, encoding_format: "float" });
    assert.deepEqual(packed.data.map((item) => item.index), [0, 1]);
    packed.data[1].embedding.forEach((number, i) => {
      assert.ok(Math.abs(number - floats.data[1].embedding[i]) < 1e-5);
    });
  });

  test(`${name}: models`, async () => {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    assert.ok(ids.includes("gpt-4o-mini"));
    assert.equal((await client.models.retrieve(ids[0])).id, ids[0]);
  });

  test(`${name}: typed errors`, async () => {
    const refused = client.chat.completions.create({ ...ASK, model: "gpt-9" });
    await assert.rejects(refused, (error) => {
      assert.ok(error instanceof OpenAI.NotFoundError);
      assert.equal(error.code, "model_not_found");
      return Boolean(error.requestID);
    });
    await assert.rejects(
      client.chat.completions.create({ ...ASK, temperature: 3 }),
      (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature",
    );
    const stranger = new OpenAI({ baseURL, apiKey: "sk-wrong-0123456789", maxRetries: 0 });
    await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
  });
}
