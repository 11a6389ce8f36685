// OpenAI's Responses API, as the AI SDK and the Agents SDK ask by default, where the local side answers.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createOpenAI } from "@ai-sdk/openai";
import { Agent, OpenAIResponsesModel, Runner, setTracingDisabled, tool as agentTool } from "@openai/agents";
import { generateObject, generateText, stepCountIs, streamObject, streamText, tool } from "ai";
import OpenAI from "openai";
import { z } from "zod";

setTracingDisabled(true);
globalThis.AI_SDK_LOG_WARNINGS = false;

const Verdict = z.object({ grade: z.enum(["good", "poor"]), lit: z.boolean() });
const City = z.object({ city: z.enum(["서울", "부산"]) });
const prompt = "What is the weather? 창은? Answer in JSON.";
const limits = { maxOutputTokens: 200, temperature: 0, maxRetries: 0 };
const ASK = { prompt, ...limits };
const WEATHER = {
  get_weather: tool({
    description: "The weather.",
    inputSchema: City,
    execute: async ({ city }) => `맑음, ${city}`,
  }),
};
const apiKey = process.env.CLIENTS_KEY;
const baseURL = JSON.parse(process.env.CLIENTS_SERVERS).local;
const model = createOpenAI({ baseURL, apiKey })("gpt-4o-mini");

test("ai: streamText says what generateText says", async () => {
  const whole = await generateText({ model, system: "Be brief.", ...ASK });
  const stream = streamText({ model, system: "Be brief.", ...ASK });
  let said = "";
  for await (const piece of stream.textStream) said += piece;
  assert.equal(said, whole.text);
  assert.ok(whole.usage.totalTokens > 0);
});

test("ai: objects, whole and streamed", async () => {
  Verdict.parse((await generateObject({ model, schema: Verdict, ...ASK })).object);
  const stream = streamObject({ model, schema: Verdict, ...ASK });
  for await (const _ of stream.partialObjectStream);
  Verdict.parse(await stream.object);
});

test("ai: a tool's result goes back in, whole and streamed", async () => {
  const asked = { model, tools: WEATHER, toolChoice: "required", stopWhen: stepCountIs(2), ...ASK };
  assert.equal((await generateText(asked)).steps.length, 2);
  const stream = streamText(asked);
  for await (const _ of stream.fullStream);
  assert.equal((await stream.steps).length, 2);
});

test("ai: a conversation goes on, by its messages and by an id", async () => {
  const first = await generateText({ model, ...ASK });
  const user = (content) => ({ role: "user", content });
  const messages = [user(prompt), ...first.response.messages, user("more")];
  const second = await generateText({ model, messages, ...limits });
  const previousResponseId = first.providerMetadata.openai.responseId;
  const options = { providerOptions: { openai: { previousResponseId } } };
  const same = await generateText({ model, prompt: "more", ...limits, ...options });
  assert.equal(same.usage.inputTokens, second.usage.inputTokens);
});

test("ai: log-probabilities, nothing stored", async () => {
  const options = { providerOptions: { openai: { store: false, logprobs: 2 } } };
  const { providerMetadata } = await generateText({ model, ...ASK, ...options });
  assert.ok(providerMetadata.openai.logprobs.length > 0);
});

const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const typed = {
  model: new OpenAIResponsesModel(client, "gpt-4o-mini"),
  outputType: Verdict,
  modelSettings: { maxTokens: 200, temperature: 0 },
};
const must = { ...typed.modelSettings, toolChoice: "required", parallelToolCalls: false };
const runner = new Runner({ tracingDisabled: true });

test("agents: typed output, and on from it", async () => {
  const agent = new Agent({ name: "typed", instructions: "Be brief.", ...typed });
  const run = await runner.run(agent, prompt);
  Verdict.parse(run.finalOutput);
  const on = await runner.run(agent, "more", { previousResponseId: run.lastResponseId });
  Verdict.parse(on.finalOutput);
});

test("agents: a tool, and a handoff", async () => {
  const asked = [];
  const execute = async ({ city }) => `맑음, ${asked[asked.push(city) - 1]}`;
  const weather = agentTool({ name: "get_weather", description: "w", parameters: City, execute });
  const agent = new Agent({ name: "weather", ...typed, tools: [weather], modelSettings: must });
  Verdict.parse((await runner.run(agent, prompt, { maxTurns: 4 })).finalOutput);
  assert.ok(["서울", "부산"].includes(asked[0]), String(asked));
  const other = new Agent({ name: "other", ...typed });
  const first = new Agent({ name: "first", ...typed, handoffs: [other], modelSettings: must });
  assert.equal((await runner.run(first, prompt, { maxTurns: 4 })).lastAgent.name, "other");
});

test("agents: a stream says what the run says", async () => {
  const agent = new Agent({ name: "stream", ...typed });
  const whole = await runner.run(agent, prompt);
  const run = await runner.run(agent, prompt, { stream: true });
  let said = "";
  for await (const piece of run.toTextStream({ compatibleWithNodeStreams: false })) said += piece;
  await run.completed;
  assert.deepEqual(JSON.parse(said), whole.finalOutput);
});
