"""OpenAI's Responses API in terms of its chat API: requests, answers and events. Pure."""
