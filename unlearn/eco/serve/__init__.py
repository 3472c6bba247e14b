"""An HTTP server in front of a guard, with the interface of OpenAI's, so that clients keep their code."""
