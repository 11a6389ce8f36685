// OpenAI's Agents SDK over chat completions: text, typed output, tools, handoffs, streams.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Agent, OpenAIChatCompletionsModel, Runner, setTracingDisabled, tool } from "@openai/agents";
import OpenAI from "openai";
import { z } from "zod";

setTracingDisabled(true);

const Verdict = z.object({ grade: z.enum(["good", "poor"]), lit: z.boolean() });
const ASK = "What is the weather? 창은? Answer in JSON.";
const settings = { maxTokens: 200, temperature: 0 };

for (const [name, baseURL] of Object.entries(JSON.parse(process.env.CLIENTS_SERVERS))) {
  const client = new OpenAI({ baseURL, apiKey: process.env.CLIENTS_KEY, maxRetries: 0 });
  const model = new OpenAIChatCompletionsModel(client, "gpt-4o-mini");
  const runner = new Runner({ tracingDisabled: true });

  test(`${name}: text, and usage`, async () => {
    const agent = new Agent({ name: "text", model, modelSettings: settings });
    const run = await runner.run(agent, ASK);
    assert.equal(typeof run.finalOutput, "string");
    assert.ok(run.rawResponses[0].usage.outputTokens > 0);
  });

  test(`${name}: typed output`, async () => {
    const agent = new Agent({ name: "typed", model, outputType: Verdict, modelSettings: settings });
    Verdict.parse((await runner.run(agent, ASK)).finalOutput);
  });

  test(`${name}: a tool is called and its result goes back in`, async () => {
    const asked = [];
    const weather = tool({
      name: "get_weather",
      description: "The weather.",
      parameters: z.object({ city: z.enum(["서울", "부산"]) }),
      execute: async ({ city }) => `맑음, ${asked[asked.push(city) - 1]}`,
    });
    const agent = new Agent({
      name: "weather",
      model,
      tools: [weather],
      modelSettings: { ...settings, toolChoice: "required", parallelToolCalls: false },
    });
    const run = await runner.run(agent, ASK, { maxTurns: 4 });
    assert.ok(["서울", "부산"].includes(asked[0]), String(asked));
    assert.equal(typeof run.finalOutput, "string");
  });

  test(`${name}: a stream says what the run says`, async () => {
    const agent = new Agent({ name: "stream", model, modelSettings: settings });
    const whole = await runner.run(agent, ASK);
    const run = await runner.run(agent, ASK, { stream: true });
    let said = "";
    for await (const piece of run.toTextStream({ compatibleWithNodeStreams: false })) said += piece;
    await run.completed;
    assert.equal(said, whole.finalOutput);
  });

  test(`${name}: a wrong key keeps its status`, async () => {
    const stranger = new OpenAI({ baseURL, apiKey: "sk-wrong-0123456789", maxRetries: 0 });
    const other = new OpenAIChatCompletionsModel(stranger, "gpt-4o-mini");
    const agent = new Agent({ name: "stranger", model: other, modelSettings: settings });
    await assert.rejects(runner.run(agent, ASK), (error) => error.status === 401);
  });
}
