"""HTTP/1.1 to one server at the least cost: httptools parses, the event loop's transports carry."""
