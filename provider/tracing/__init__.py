"""OpenTelemetry traces with the GenAI semantic conventions; loaded only where they are asked for.

A chat completion or an embedding that a provider answers is one span (`chat gpt-4o-mini`), a
fallback's second provider or a shadow another; the server puts its own span around them. The
trace goes on at the upstream (`traceparent`). Prompts and answers stay out unless
`LLM_TRACING_CONTENT=on`.
"""
