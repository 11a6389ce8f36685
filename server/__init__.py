"""The HTTP face: OpenAI's API over any provider. `server.app.create_app` is the way in."""
