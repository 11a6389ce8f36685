// The Vercel AI SDK, through @ai-sdk/openai (chat) and @ai-sdk/openai-compatible.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, embedMany, generateObject, generateText, streamObject, streamText, tool } from "ai";
import { z } from "zod";

globalThis.AI_SDK_LOG_WARNINGS = false;

const Verdict = z.object({ grade: z.enum(["good", "poor"]), lit: z.boolean() });
const ASK = {
  prompt: "What is the weather? 창은? Answer in JSON.",
  maxOutputTokens: 200,
  temperature: 0,
  seed: 7,
  maxRetries: 0,
};
const WEATHER = {
  get_weather: tool({
    description: "The weather.",
    inputSchema: z.object({ city: z.enum(["서울", "부산"]) }),
    execute: async ({ city }) => `맑음, ${city}`,
  }),
};
const apiKey = process.env.CLIENTS_KEY;

for (const [name, baseURL] of Object.entries(JSON.parse(process.env.CLIENTS_SERVERS))) {
  const openai = createOpenAI({ baseURL, apiKey });
  const compatible = createOpenAICompatible({
    name: "sllm",
    baseURL,
    apiKey,
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
  const models = {
    openai: openai.chat("gpt-4o-mini"),
    compatible: compatible.chatModel("gpt-4o-mini"),
  };

  for (const [kind, model] of Object.entries(models)) {
    test(`${name} ${kind}: generateText`, async () => {
      const { text, usage, finishReason } = await generateText({ model, ...ASK });
      assert.equal(typeof text, "string");
      assert.ok(usage.totalTokens > 0);
      assert.ok(["stop", "length"].includes(finishReason));
    });

    test(`${name} ${kind}: streamText says what generateText says`, async () => {
      const whole = await generateText({ model, ...ASK });
      const stream = streamText({ model, ...ASK });
      let said = "";
      for await (const piece of stream.textStream) said += piece;
      assert.equal(said, whole.text);
      assert.ok((await stream.usage).totalTokens > 0);
    });

    test(`${name} ${kind}: generateObject`, async () => {
      const { object } = await generateObject({ model, schema: Verdict, ...ASK });
      Verdict.parse(object);
    });

    test(`${name} ${kind}: streamObject`, async () => {
      const { object, partialObjectStream } = streamObject({ model, schema: Verdict, ...ASK });
      let parts = 0;
      for await (const _ of partialObjectStream) parts += 1;
      assert.ok(parts > 0);
      Verdict.parse(await object);
    });

    test(`${name} ${kind}: tools are called and their results sent`, async () => {
      const { toolCalls, toolResults } = await generateText({
        model,
        ...ASK,
        tools: WEATHER,
        toolChoice: "required",
      });
      assert.equal(toolCalls[0].toolName, "get_weather");
      assert.match(toolResults[0].output, /맑음/);
    });

    test(`${name} ${kind}: streamed tools`, async () => {
      const stream = streamText({
        model,
        ...ASK,
        tools: WEATHER,
        toolChoice: { type: "tool", toolName: "get_weather" },
      });
      const kinds = [];
      for await (const part of stream.fullStream) kinds.push(part.type);
      assert.ok(kinds.includes("tool-call"), kinds.join());
      assert.ok(!kinds.includes("error"), kinds.join());
    });
  }

  test(`${name}: embed and embedMany`, async () => {
    const model = openai.embedding("text-embedding-3-small");
    const { embedding } = await embed({ model, value: "남향 거실", maxRetries: 0 });
    const { embeddings } = await embedMany({ model, values: ["남향 거실", "x"], maxRetries: 0 });
    embedding.forEach((number, i) => assert.ok(Math.abs(number - embeddings[0][i]) < 1e-5));
  });

  test(`${name}: errors keep status and body`, async () => {
    await assert.rejects(
      generateText({ model: openai.chat("gpt-9"), ...ASK }),
      (error) => error.statusCode === 404 && error.responseBody.includes("model_not_found"),
    );
  });
}
