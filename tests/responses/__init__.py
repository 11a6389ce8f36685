"""The Responses API over providers that answer chats."""
